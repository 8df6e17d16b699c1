"""A Document, and the Source that it comes from: one reader with its package, licence and role."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Document(NamedTuple):
    """One text, or one question with its answer (title and text)."""

    id: str
    text: str
    lang: str
    source: str
    kind: str
    title: str = ""
    group: str = ""
    """What is split as a whole: a book, a title over all languages, an answer, a sentence template."""
    summary: str = ""
    """A short description, where the source has one."""
    label: str = ""
    """A class in words, where the source has one."""
    official: str = ""
    """The source's own split, where it has one: "test" rows are shared between our dev and test."""
    clean: bool = True
    """Whether it is mended and judged; False keeps every character."""


Reader = Callable[[str, int], Iterator[Document]]
"""(language, seed) -> documents."""


@dataclass(frozen=True)
class Source:
    """Where documents come from and what they serve."""

    name: str
    package: str
    languages: tuple[str, ...]
    reader: Reader
    role: Literal["prose", "record"] = "prose"
    """prose: language-model text, fully cleaned; record: short pairs and labelled texts, repaired and made unique only."""
    heldout_share: float | None = None
    """Instead of data.heldout_share, where a source is small; 0 where nothing is evaluated on it."""
    aligned: bool = False
    """Whether groups are shared over languages; then the sample takes the same groups in each."""
    content_licence: str = "not stated"
    """Licence of the text itself, where the package's documents tell it apart from the code."""
    edition: str = ""
    note: str = ""
