"""Sections of a page: each topic's Markdown template, filled with what the topic shows of a run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from conan_lib.findings.blocks import Block, Figure, Missing, Table, Text
from conan_lib.findings.run import Run
from conan_lib.findings.topic import Topic

PLACE = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands around the number of a block while its template is filled."""


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        notebook: the executed notebook that it rests on.
        short: its name in the table of contents.
        claims: ids of the claims that it bears on.
        inconsistencies: numbers of the paper's inconsistencies that touch it.
    """

    id: str
    title: str
    blocks: tuple[Block, ...]
    notebook: str | None = None
    short: str = ""
    claims: tuple[str, ...] = ()
    inconsistencies: tuple[int, ...] = ()

    @property
    def lead(self) -> int:
        """So many blocks stand open: up to the first figure, or the first short table where there is none."""
        kinds = [isinstance(block, Figure) for block in self.blocks]
        short = [isinstance(block, Table) and not block.long for block in self.blocks]
        return next((found.index(True) + 1 for found in (kinds, short) if True in found), len(self.blocks))

    @property
    def rest(self) -> str:
        """What is folded behind the lead, counted."""
        kinds = [block.kind for block in self.blocks[self.lead :]]
        names = {"figure": ("figure", "figures"), "table": ("table", "tables"), "missing": ("thing not here", "things not here")}
        counted = [(kinds.count(kind), *both) for kind, both in names.items()]
        return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counted if count) or "text"


def section(topic: Topic, run: Run) -> Section:
    """A topic's section of a run.

    Raises:
        ValueError: the template leaves out a block, or shows it twice.
    """
    blocks: list[Block] = []
    shown = {name: _placed(value, blocks) for name, value in topic.show(run).items()}
    environment = Environment(
        loader=PackageLoader(topic.package, ""), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    text = environment.get_template("section.md.j2").render(shown, run=run, params=run.params)
    texts, numbers = (re.split(f"{PLACE}(\\d+){PLACE}", text)[start::2] for start in (0, 1))
    if sorted(map(int, numbers)) != list(range(len(blocks))):
        raise ValueError(f"{topic.id}: section.md.j2 shows {len(numbers)} blocks, show() returned {len(blocks)}: name each of them once")
    parts: list[Block] = []
    for before, number in zip(texts, [*numbers, None], strict=True):
        if before.strip():
            parts.append(Text(before.strip()))
        if number is not None:
            parts.append(blocks[int(number)])
    claims = (*(claim.id for claim in topic.claims), *topic.bears_on)
    return Section(
        topic.id, topic.title, tuple(parts), topic.notebook, topic.short, tuple(sorted(claims, key=_number)), topic.inconsistencies
    )


def _placed(value: Any, blocks: list[Block]) -> Any:
    """What a template prints for a value: a mark for a block, which joins `blocks`."""
    if isinstance(value, Text | Table | Figure | Missing):
        blocks.append(value)
        return f"{PLACE}{len(blocks) - 1}{PLACE}"
    if isinstance(value, Mapping):
        return {name: _placed(inner, blocks) for name, inner in value.items()}
    if isinstance(value, list) and value and not isinstance(value[0], str):
        return "\n\n".join(_placed(inner, blocks) for inner in value)
    return "" if value == [] else value


def _number(claim: str) -> int:
    return int(claim.removeprefix("C"))
