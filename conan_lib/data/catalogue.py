"""Which sources a run reads, known before anything is read."""

from collections.abc import Sequence

from conan_lib.data.sources.bible import PACKAGE, SCRIPTURE, editions, has_scripture
from conan_lib.data.sources.document import Source
from conan_lib.data.sources.embedded import SOURCES
from conan_lib.errors import UserError
from conan_lib.params.data import DataParams


def open_sources(params: DataParams) -> Sequence[Source]:
    """The readers of data.source.

    Raises:
        UserError: data.source_documents names no source, or the hub is out of reach.
    """
    if params.source == "hub":
        from conan_lib.data.hub import hub_sources

        sources = hub_sources(params)
    else:
        sources = SOURCES
    names = {*(source.name for source in sources), *SCRIPTURE}
    if unknown := sorted(set(params.source_documents or ()) - names):
        raise UserError(f"data.source_documents: no source {', '.join(unknown)}: choose from {', '.join(sorted(names))}")
    return sources


def catalogue(params: DataParams) -> list[dict[str, str]]:
    """A row for each source and each edition of scripture, in the run's languages.

    The licence is that of the text itself; sources.json has the package's beside it. The second edition of a language is listed also where
    only similarity pairs quote it (`data.editions` is 1).
    """
    if params.source == "hub":
        from conan_lib.data.hub import declared

        sources = declared(params)
    else:
        sources = SOURCES
    rows = [
        (source.name, source.package, source.edition, " ".join(own), source.content_licence)
        for source in sources
        if (own := [lang for lang in params.languages if lang in source.languages])
    ]
    for lang in filter(has_scripture, params.languages if params.scripture else ()):
        for number, edition in enumerate(editions(lang)[: max(2, params.editions)]):
            rows.append((SCRIPTURE[min(number, 1)], PACKAGE, edition.name, lang, edition.licence))
    return [dict(zip(("source", "package", "edition", "languages", "licence of the text"), row, strict=True)) for row in rows]
