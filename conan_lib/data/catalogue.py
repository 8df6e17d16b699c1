"""Which sources a run reads, known before anything is read."""

from collections import Counter
from collections.abc import Iterable, Sequence

from conan_lib.data.declared import check, hub
from conan_lib.data.sampling import drawn_split
from conan_lib.data.sources.bible import LANGUAGES, PACKAGE, SCRIPTURE, editions
from conan_lib.data.sources.document import Source
from conan_lib.data.sources.embedded import SOURCES
from conan_lib.errors import UserError
from conan_lib.files import read_json
from conan_lib.params.data import DataParams
from conan_lib.params.sets import EMBEDDED, Task
from conan_lib.stages import Stage


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


def fed(params: DataParams) -> dict[str, list[str]]:
    """Language of the run -> the tasks that some declared set feeds in it, as far as rows name their languages; `embedded` where packaged
    text is read in it.

    Raises:
        UserError: no set feeds a language.
    """
    told = all(row.languages for row in params.declared)
    packaged = set(LANGUAGES) if params.scripture else {lang for source in open_sources(params) for lang in source.languages}
    found = {
        lang: sorted({row.task for row in params.declared if lang in row.languages}) + [EMBEDDED] * (lang in packaged)
        for lang in params.languages
    }
    if (bare := [lang for lang, tasks in found.items() if not tasks]) and told:
        raise UserError(f"data.languages: no set feeds {', '.join(bare)}: add a row with its lang to data.sets, or take it out")
    return found


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


def check_sets(params: DataParams) -> dict[Task, Counter[str]]:
    """Look into every declared set, so that a mistake shows before any work (`declared.check`).

    Returns:
        Rows that train, by task and language, before decontamination; without tasks of which there is more than was looked at.

    Raises:
        UserError: a set cannot be read, or the hub is out of reach.
    """
    if first := next((row for row in params.declared if row.hub), None):
        hub.reach(f"data.sets: {first.from_}", "save it as files and name those")
    counts: dict[Task, Counter[str]] = {row.task: Counter() for row in params.declared}
    for declared in params.declared:
        rows, share = check(declared, params.languages), declared.heldout_share(params.heldout_share)
        if rows is None:
            counts.pop(declared.task, None)
        elif declared.task in counts:
            counts[declared.task].update(row["lang"] for row in rows if drawn_split(row["group"], share, params.seed) == "train")
    return counts


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
