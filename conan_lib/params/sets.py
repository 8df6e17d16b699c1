"""A training set as a parameter file declares it: one row, in one form for files, folders and the Hugging Face hub."""

import re
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from conan_lib.params.base import Section

Task = Literal["weak", "retrieval", "clr", "sts", "classification", "clustering", "sft", "text"]
PAIRS: tuple[Task, ...] = ("weak", "retrieval", "clr")
LABELS: tuple[Task, ...] = ("classification", "clustering")
_PAIR = (
    "id", "anchor", "positive", "positive_id", "negatives", "score", "negative_scores", "lang", "positive_lang", "prompt",
    "source_anchor_id",
)  # fmt: skip
FIELDS: dict[Task, tuple[str, ...]] = {
    **dict.fromkeys(PAIRS, _PAIR),
    "sts": ("id", "anchor", "positive", "score", "lang"),
    **dict.fromkeys(LABELS, ("id", "text", "label", "lang")),
    "sft": ("id", "instruction", "input", "output", "lang"),
    "text": ("id", "title", "text", "lang"),
}
"""What a row of each task may hold, in our words: the keys of `columns`."""
SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".txt")
"""Files that are read; all but parquet also with .gz behind."""
EMBEDDED = "embedded"
SCRIPTURE = f"{EMBEDDED}/bible"
_HUB = re.compile(r"(?P<path>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(#(?P<config>[\w.{}-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class DeclaredSet(Section):
    """One data set. Field names that other tools write are understood without `columns` (docs/own_data.md lists them)."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    from_: str = Field(alias="from", min_length=1)
    """A file (.jsonl, .json, .parquet, .csv, .tsv, .txt; also .gz), a folder of shards, a data set of the hub as owner/name@REVISION#config
    ({lang} in the config stands for each of `lang`), or the text that ships in packages: all of it, `embedded`, or one source of it,
    `embedded/bible`, `embedded/wiki`. Of an embedded row only share and note may be given besides, and the one task that scripture trains
    (clr, sts, weak, sft, text), where it is not to train all of them."""
    task: Task | None = None
    """What it trains. weak and retrieval: anchor -> positive; clr: the anchor is in another language; sts: two sentences and a score;
    classification and clustering: text and label; sft: instruction, input, output; text: language-model text."""
    lang: str | tuple[str, ...] | None = None
    """ISO 639-1 code of its texts, three letters where there is none. Several: a hub set has a config in each. None: each record tells its
    own."""
    columns: dict[str, str] = {}
    """Our field -> the set's own field, where its name is not a known one: {anchor: Frage, positive: Antwort}. a.b is field b inside of a,
    and {lang} stands for the language as in `from`: {anchor: "translation.{lang}", positive: translation.en}."""
    name: str = ""
    """How rows, funnel and report call it. Empty: the file's or the data set's name."""
    split: str = "train"
    """Of a hub set."""
    prompt: str = ""
    """Instruction in front of each anchor, in training as in evaluation. A record's own prompt wins."""
    share: float = Field(1.0, gt=0)
    """Weight among the sets of its task where there are more rows than the task takes."""
    rows: int | None = Field(None, ge=1)
    """Most records that are read, in each language of a hub set. None: a file is read whole, of a hub set data.hub_records."""
    heldout: Annotated[float, Field(ge=0, lt=0.5)] | str | None = None
    """Share of the queries that only tests, and as much again only tunes, drawn by a hash of the anchor; or a file of held-out records.
    None: data.heldout_share where the task is evaluated, none for weak and sft."""
    corpus: str | None = None
    """A file of passages (docid or id, title, text) where records name passages by their ids alone."""
    label_names: tuple[str, ...] = ()
    """Words for labels that are numbers: the first stands for 0."""
    score_range: tuple[float, float] | None = None
    """Smallest and largest score of an sts set, mapped to 0 and 1."""
    min_positive_score: float | None = None
    """Positives whose given score is lower are dropped; each record must give it (pos_scores, score)."""
    max_negative_score: float | None = None
    """Negatives whose given score is higher are dropped: they may be unlabelled positives. Each record with negatives must give theirs in
    order (neg_scores)."""
    bad_records: Literal["refuse", "skip"] = "refuse"
    """refuse: the first record that lacks a field ends the run in one line; skip: it is left out and counted."""
    clean: bool = True
    """Mis-decoded characters and white space are mended. False keeps every character, which code needs; documents are not judged either."""
    kind: Literal["web", "news", "encyclopedia", "speech"] = "web"
    """Of language-model text; pretrain.news leaves news out."""
    licence: str = "not stated"
    """Its licence, as the report and the model card print it."""
    note: str = ""
    """What the report says beside it: that it stands in for a set that is not public, for example."""

    @property
    def embedded(self) -> str:
        """The source of packaged text that it names, `embedded` for all of them; empty for a set of another kind."""
        return self.from_.rpartition("/")[2] if self.from_ == EMBEDDED or self.from_.startswith(f"{EMBEDDED}/") else ""

    @property
    def source(self) -> str:
        """Its name in rows, funnel and report."""
        if self.name:
            return self.name
        last = (self.hub["path"] if self.hub else self.from_.rstrip("/")).rsplit("/", 1)[-1].removesuffix(".gz")
        return next((last.removesuffix(end) for end in SUFFIXES if last.endswith(end)), last)

    @property
    def hub(self) -> dict[str, str] | None:
        """path, revision and config of a set on the hub, empty where not given; None for files and folders.

        What ends like a data file or starts with a dot or slash is a file, and what looks like owner/name is on the hub: write
        ./owner/name for a folder.
        """
        ending = self.from_.removesuffix(".gz").endswith(SUFFIXES)
        found = None if ending or self.embedded else _HUB.fullmatch(self.from_)
        return {key: value or "" for key, value in found.groupdict().items()} if found and not self.from_.startswith(".") else None

    @property
    def pinned(self) -> bool:
        """Whether a hub set's revision is a commit, which nobody can change."""
        return bool(self.hub and _COMMIT.fullmatch(self.hub["revision"]))

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that it names; none where its records do."""
        return (self.lang,) if isinstance(self.lang, str) else self.lang or ()

    def heldout_share(self, default: float) -> float:
        """Share of the queries that tests; `default` where the set says nothing and its task is evaluated."""
        if isinstance(self.heldout, float):
            return self.heldout
        return 0.0 if self.heldout is not None or self.task in ("weak", "sft") else default

    @model_validator(mode="after")
    def _row_makes_sense(self):
        given = {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}
        if self.embedded:
            one = {"task"} if self.from_ == SCRIPTURE and self.task in ("clr", "sts", "weak", "sft", "text") else set()
            if given := given - {"from_", "share", "note"} - one:
                raise ValueError(f"{', '.join(sorted(given))}: from: {self.from_} takes no such key: its sources know it themselves")
            return self
        if self.task is None:
            raise ValueError(f"task: say what {self.from_} trains: {', '.join(FIELDS)}")
        if unknown := [name for name in self.columns if name not in FIELDS[self.task]]:
            raise ValueError(f"columns.{unknown[0]}: task {self.task} has no such field; it has {', '.join(FIELDS[self.task])}")
        only = {"label_names": LABELS, "score_range": ("sts",), "kind": ("text",), "min_positive_score": PAIRS, "max_negative_score": PAIRS,
                "corpus": PAIRS, "prompt": (*PAIRS, "sts", *LABELS, "sft")}  # fmt: skip
        for field, tasks in only.items():
            if field in given and self.task not in tasks:
                raise ValueError(f"{field}: belongs to task {', '.join(tasks)}, not to {self.task}: leave it out")
        if self.score_range and self.score_range[0] >= self.score_range[1]:
            raise ValueError(f"score_range: {list(self.score_range)} does not rise: give the smallest score and the largest")
        if len(self.languages) > 1 and not (self.hub and "{lang}" in self.hub["config"]):
            raise ValueError(
                "lang: several languages need {lang} in the hub config; in a file each record tells its own: columns: {lang: its field}"
            )
        if self.hub and "{lang}" in self.hub["config"] and not self.languages:
            raise ValueError("lang: the config has {lang}: name the languages")
        return self
