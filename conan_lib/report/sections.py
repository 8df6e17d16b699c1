"""Sections of a page: each topic's Markdown template, filled with what the topic shows of a run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from conan_lib.findings.blocks import Block, Figure, Missing, Table, Text
from conan_lib.findings.run import Run
from conan_lib.findings.topic import Topic
from conan_lib.findings.trained import trained_by
from conan_lib.table import TABLE

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
        folded: nothing of it stands open on the page.
    """

    id: str
    title: str
    blocks: tuple[Block, ...]
    notebook: str | None = None
    short: str = ""
    claims: tuple[str, ...] = ()
    inconsistencies: tuple[int, ...] = ()
    folded: bool = False

    @property
    def lead(self) -> tuple[Block, ...]:
        """What stands open: the first text, and the first figure, or where there is none a short table, or what is missing."""
        if self.folded:
            return ()
        texts = [block for block in self.blocks if isinstance(block, Text)][:1]
        shown = [block for block in self.blocks if isinstance(block, Figure)]
        shown += [block for block in self.blocks if isinstance(block, Table) and not block.long]
        shown += [block for block in self.blocks if isinstance(block, Missing)]
        return (*texts, *shown[:1])

    @property
    def rest(self) -> tuple[Block, ...]:
        """What is folded behind the lead."""
        open_ = {id(block) for block in self.lead}
        return tuple(block for block in self.blocks if id(block) not in open_)

    @property
    def counted(self) -> str:
        """What the rest is, in words."""
        kinds = [block.kind for block in self.rest]
        names = {
            "figure": ("figure", "figures"),
            "table": ("table", "tables"),
            "missing": ("thing that was not run", "things that were not run"),
        }
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
            parts.append(_named(blocks[int(number)], run))
    claims = (*(claim.id for claim in topic.claims), *topic.bears_on)
    return Section(
        topic.id, topic.title, tuple(parts), topic.notebook, topic.short, tuple(sorted(claims, key=_number)), topic.inconsistencies,
        topic.folded,
    )  # fmt: skip


def _named(block: Block, run: Run) -> Block:
    """The block with the model that its numbers are of, where one was trained for them."""
    trained = {"pretrain"}
    for name, spec in TABLE.items():
        if trained & {*spec.inputs}:
            trained.add(name)
    of_a_model = isinstance(block, Table | Figure) and any(key.partition("/")[0] in trained for key in block.sources if "/" in key)
    return replace(block, model=trained_by(run)) if of_a_model else block


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
