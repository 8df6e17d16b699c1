"""The questions that the report answers, one folder each. The report finds them by walking this package; nobody else lists them.

A topic is a folder with an `__init__.py` that holds one object, and with what it needs of the rest:

    measure.py      the function of its stage, where it has one (conan_lib.table names it)
    show.py         frames and drawings from finished stages, for notebooks too; `show(run)`: what the section's template names
    claim.py        its Claim objects: the rule, and the function from a run to a Finding
    section.md.j2   its section in Markdown: sentences, and a line `{{ name }}` for each block, or list of blocks, of `show(run)`
    __init__.py     TOPIC = Topic("mask", "Soft mask", "Soft mask", 30, show.show, "05_weak", claims=(...), inconsistencies=(1, 8))

What `show(run)` returns stands in the template by its name, with `run` and `params`; a block that is left out is an error. Blocks
come from findings.blocks: `table(run, id, caption, stages, make)`, `figure(...)`, `scored(...)` open stages, or say what is missing. A
figure has a take-away: the sentence above it, made from the numbers. The page shows the first text beside the first figure, and folds the
rest.

A frame holds numbers. A number `x` with a 95 % interval has columns `x`, `x low`, `x high`; `measured` and `wide` of findings.tables make
them from result rows. The Table says how they look (decimals, sign, what an empty cell says); findings.tables renders them. Notebooks show
a frame by `findings.tables.show(frame)`.
"""

from dataclasses import replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from conan_lib.findings.claim import Claim, Finding
from conan_lib.findings.run import Run
from conan_lib.findings.topic import Topic
from conan_lib.findings.trained import trained_by


@cache
def topics() -> tuple[Topic, ...]:
    """Every topic, in the order of its section."""
    found = (import_module(f"{__name__}.{module.name}").TOPIC for module in iter_modules(__path__) if module.ispkg)
    return tuple(sorted(found, key=lambda topic: topic.order))


def claims() -> tuple[Claim, ...]:
    """Every claim, by its number."""
    return tuple(sorted((claim for topic in topics() for claim in topic.claims), key=lambda claim: int(claim.id.removeprefix("C"))))


def judge(run: Run) -> list[tuple[Claim, Finding]]:
    """What a run says about each claim; a claim whose input is missing says so."""
    found, own = ((claim, claim.evaluate(run)) for claim in claims()), trained_by(run)
    return [(claim, finding if finding.model or finding.verdict == "not run" else replace(finding, model=own)) for claim, finding in found]
