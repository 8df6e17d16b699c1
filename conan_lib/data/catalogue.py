"""Which sources a run reads, known before anything is read."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from conan_lib.data.clean import Funnel
from conan_lib.data.corpus import HELDOUT
from conan_lib.data.declared import CHECKED, check, hub, read
from conan_lib.data.places import digest
from conan_lib.data.sampling import drawn_split
from conan_lib.data.sources.bible import LANGUAGES, PACKAGE, SCRIPTURE, editions
from conan_lib.data.sources.document import Source
from conan_lib.data.sources.embedded import SOURCES
from conan_lib.errors import UserError
from conan_lib.files import read_json
from conan_lib.params.data import DataParams
from conan_lib.params.sets import EMBEDDED, PAIRS, Task
from conan_lib.stages import Stage
from conan_lib.training.tasks import TASKS

POOLED = frozenset(task.name for task in TASKS.values() if task.negatives == "pool")
"""Tasks that hard negatives are mined for, among the passages of all of them."""


def open_sources(params: DataParams) -> Sequence[Source]:
    """The packaged sources that the run reads.

    Raises:
        UserError: data.source_documents or an embedded row names no source.
    """
    known = {*(source.name for source in SOURCES), SCRIPTURE[0]}
    if unknown := sorted(params.embedded - known - {EMBEDDED}):
        raise UserError(f"data.sets: from: {EMBEDDED}/{unknown[0]}: no such source: choose from {', '.join(sorted(known))}")
    names = {*known, *SCRIPTURE, *(row.source for row in params.declared)}
    if unknown := sorted(set(params.source_documents or ()) - names):
        raise UserError(f"data.source_documents: no source {', '.join(unknown)}: choose from {', '.join(sorted(names))}")
    return [source for source in SOURCES if params.embedded & {EMBEDDED, source.name}]


def check_fed(params: DataParams) -> None:
    """Whether some set feeds each language of the run, as far as rows name their languages.

    Raises:
        UserError: none feeds a language.
    """
    fed = set(LANGUAGES) if params.scripture else {lang for source in open_sources(params) for lang in source.languages}
    fed |= {lang for row in params.declared for lang in row.languages}
    if (bare := [lang for lang in params.languages if lang not in fed]) and all(row.languages for row in params.declared):
        raise UserError(f"data.languages: no set feeds {', '.join(bare)}: add a row with its lang to data.sets, or take it out")


def unfed(params: DataParams, tasks: Iterable[Task]) -> dict[Task, list[str]]:
    """Task -> the languages of the run in which no set feeds it, neither a declared one nor packaged text, as far as rows name their
    languages; tasks without such a language are left out."""
    found = {}
    for task in tasks:
        own = [row for row in params.declared if row.task == task]
        if all(row.languages for row in own):
            verses = set(LANGUAGES) if params.scripture_trains(task) else set()
            others = {lang for source in open_sources(params) for lang in source.languages} if task not in ("clr", "sts") else set()
            fed = verses | others | {lang for row in own for lang in row.languages}
            if bare := [lang for lang in params.languages if lang not in fed and (task, lang) != ("clr", params.languages[0])]:
                found[task] = bare
    return found


@dataclass
class Found:
    """What a look into the declared sets has found.

    Attributes:
        rows: that train, by task and language, before decontamination; without tasks of which there is more than was looked at.
        held: of each split that is held out, the queries, sentence pairs or labelled texts of its largest evaluation set; None where a set
            that may be held out of has more than was looked at.
        passages: by language, the texts that hard negatives are chosen from: digests of the pairs' positives and of the negatives that come
            with them.
        given: by task and a passage's language, the fewest negatives that come with a pair.
    """

    rows: dict[Task, Counter[str]]
    held: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(HELDOUT, 0))
    passages: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    given: dict[tuple[Task, str], int] = field(default_factory=dict)

    def hold(self, task: Task, split: str, rows: Iterable[dict]) -> None:
        """Take a set's held-out rows into account."""
        sets: dict[str, dict] = defaultdict(dict)
        for row in rows:
            item, value = (row["anchor"],) * 2 if task in PAIRS else (row["id"], row["score" if task == "sts" else "label"])
            sets["" if task == "clr" else row["lang"]][row["lang"], item] = value
        largest = max((len(own) for own in sets.values() if len(set(own.values())) > 1), default=0)
        if self.held[split] is not None:
            self.held[split] = max(self.held[split], largest)

    def pool(self, task: Task, row: dict, pivot: str) -> None:
        """Take a pair that trains into account, where hard negatives are found for its task."""
        lang, negatives = row.get("positive_lang") or (pivot if task == "clr" else row["lang"]), row.get("negatives") or ()
        self.passages[lang].update(map(digest, (row["positive"], *negatives)))
        self.given[task, lang] = min(self.given.get((task, lang), len(negatives)), len(negatives))

    def most_negatives(self, task: Task, lang: str, skipped: int) -> int:
        """Hard negatives that every pair of a task and language can have: given ones, or the passages but its own and those passed over."""
        return max(self.given[task, lang], len(self.passages[lang]) - 1 - skipped)


def check_sets(params: DataParams) -> Found:
    """Look into every declared set, so that a mistake shows before any work (`declared.check`).

    Raises:
        UserError: a set cannot be read, or the hub is out of reach.
    """
    if first := next((row for row in params.declared if row.hub), None):
        hub.reach(f"data.sets: {first.from_}", "save it as files and name those")
    found = Found({row.task: Counter() for row in params.declared})
    for declared in params.declared:
        rows, share, task = check(declared, params.languages), declared.heldout_share(params.heldout_share), declared.task
        if rows is None:
            found.rows.pop(task, None)
        split = {name: [] for name in (*HELDOUT, "train")}
        for row in rows or ():
            split[drawn_split(row["group"], share, params.seed)].append(row)
        if isinstance(declared.heldout, str):
            for row in islice(read(declared, params.languages, Funnel(), file=declared.heldout), CHECKED):
                split[drawn_split(row["group"], 0.5, params.seed)].append(row)
        for name in HELDOUT if task not in ("text", "sft") else ():
            found.hold(task, name, split[name])
            if rows is None and share:
                found.held[name] = None
        if task in found.rows:
            found.rows[task].update(row["lang"] for row in split["train"])
        for row in split["train"] if task in POOLED else ():
            found.pool(task, row, params.languages[0])
    return found


def origins(stage: Stage) -> list[dict]:
    """The rows of stage `corpus`' sources.json. A declared set's licence and note are in no key, so they are what its row says today."""
    said = {row.source: {"licence": row.licence, "note": row.note} for row in stage.params.data.declared}
    return [row | said.get(row["name"], {}) for row in read_json(stage.path / "sources.json")]


def catalogue(params: DataParams) -> list[dict[str, str]]:
    """A row for each source, each edition of scripture and each declared set, in the run's languages.

    The licence is that of the text itself; sources.json has the package's beside it. The second edition of a language is listed also where
    only similarity pairs quote it (`data.editions` is 1).
    """
    rows = [
        (source.name, source.package, source.edition, " ".join(own), source.content_licence)
        for source in open_sources(params)
        if (own := [lang for lang in params.languages if lang in source.languages])
    ]
    for lang in filter(LANGUAGES.__contains__, params.languages if params.scripture else ()):
        for number, edition in enumerate(editions(lang)[: max(2, params.editions)]):
            rows.append((SCRIPTURE[min(number, 1)], PACKAGE, edition.name, lang, edition.licence))
    for row in params.declared:
        languages = " ".join(lang for lang in row.languages if lang in params.languages) or "as its records say"
        rows.append((row.source, row.from_, f"task {row.task}", languages, row.licence))
    return [dict(zip(("source", "package", "edition", "languages", "licence of the text"), row, strict=True)) for row in rows]
