"""A topic: one question that the report answers, from what measures it to its section. See conan_lib.topics for how one is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from conan_lib.findings.claim import Claim
from conan_lib.findings.run import Run


@dataclass(frozen=True)
class Topic:
    """One section of the report with the claims that it decides.

    Attributes:
        id: the name of its folder below conan_lib/topics, and of its section.
        title: the section's heading.
        short: its name in the table of contents.
        order: its place among all sections.
        show: from a run to what the template names: blocks, lists of blocks, and values for its sentences.
        notebook: the executed notebook that the section rests on.
        claims: those that the topic decides.
        bears_on: ids of other topics' claims that it bears on.
        inconsistencies: points where the paper is inconsistent that touch it.
        folded: closed on the page until a reader opens it; for what few readers look up.
    """

    id: str
    title: str
    short: str
    order: int
    show: Callable[[Run], Mapping[str, Any]]
    notebook: str | None = None
    claims: tuple[Claim, ...] = ()
    bears_on: tuple[str, ...] = ()
    inconsistencies: tuple[int, ...] = ()
    folded: bool = False

    @property
    def package(self) -> str:
        return f"conan_lib.topics.{self.id}"
