"""Pins: PAPER.md is complete and true. Every equation has a symbol that imports and names the id, and an existing test that is marked with
it; every marked id has a row; every claim and contradiction of the ledger stands there; every parameter that holds a reading exists;
notebooks print the equations of their stage."""

import ast
import importlib
import inspect
import json
import re
from collections import defaultdict
from pathlib import Path

import pytest

from conan_lib.findings.published import inconsistencies
from conan_lib.params import Params
from conan_lib.run.notebooks import NOTEBOOKS
from conan_lib.topics import claims

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "PAPER.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")][2:]


EQUATIONS = {row[0].strip("`"): row for row in table("Equations")}
CLAIM_ROWS = {row[0]: row for row in table("Claims")}


def marked() -> dict[str, set[str]]:
    """Equation id -> the tests that carry its mark, as file::name."""
    found = defaultdict(set)
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.equation":
                    found[decorator.args[0].value].add(f"{path.relative_to(ROOT).as_posix()}::{node.name}")
    return found


MARKED = marked()


@pytest.mark.parametrize("equation", EQUATIONS)
def test_each_row_has_its_symbol_its_test_and_its_notebooks(equation):
    _, _, _, symbol, test, notebooks = EQUATIONS[equation]
    module, name = symbol.strip("`").rsplit(".", 1)
    documented = inspect.getdoc(getattr(importlib.import_module(module), name)) or ""
    assert re.search(rf"\b{equation}\b", documented), f"{symbol}: its docstring does not name {equation}"
    assert test.strip("`") in MARKED[equation], f"{equation}: {test} does not exist or lacks the mark; marked are {MARKED[equation]}"
    assert set(notebooks.split(", ")) <= set(NOTEBOOKS)


def test_each_marked_equation_has_a_row():
    assert set(MARKED) <= set(EQUATIONS)


# what a notebook prints of its equations, spaces apart
PRINTED = {
    "05_weak": (
        r"\mathrm{softmax}(S + \log M)\,V",
        r"\mathrm{softmax}(S \times M)\,V",
        r"(t/\tau)^2",
        r"1 - (1 - t/\tau)^2",
        "(../PAPER.md)",
    ),
    "06_supervised": (r"\sum_k e^{s(x,\,N_k)/T}", r"\sum_d w_d\, \mathcal{L}(x_{:d})", "All weights $w_d$ are 1", "(../PAPER.md)"),
}


@pytest.mark.parametrize("notebook", PRINTED)
def test_a_notebook_prints_its_equations_and_links_here(notebook):
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    prose = " ".join("".join("".join(cell["source"]) for cell in cells).split())
    assert not [formula for formula in PRINTED[notebook] if formula not in prose]


def test_claims_and_contradictions_are_those_of_the_ledger():
    assert list(CLAIM_ROWS) == [claim.id for claim in claims()]
    for claim in claims():
        points, notebook = CLAIM_ROWS[claim.id][3:]
        assert tuple(int(point) for point in points.split(",") if point) == claim.inconsistencies, claim.id
        assert notebook in NOTEBOOKS
    section = TEXT.split("\n## Inconsistencies in the paper\n")[1].split("\n## ")[0]
    assert [int(n) for n in re.findall(r"^(\d+)\. ", section, re.M)] == list(inconsistencies())


def test_the_figures_in_the_contradictions_are_those_of_the_ledger():
    section = TEXT.split("\n## Inconsistencies in the paper\n")[1].split("\n## ")[0]
    for number, items in zip(inconsistencies(), re.split(r"^\d+\. ", section, flags=re.M)[1:], strict=True):
        figures = set(re.findall(r"\d[\d,.]*\d", inconsistencies()[number]))
        assert figures <= set(re.findall(r"\d[\d,.]*\d", items)), number


def test_each_reading_names_a_parameter_that_exists():
    named = [name for row in table("What the paper leaves open, and our reading") for name in re.findall(r"`([\w*]+(?:\.\w+)+)`", row[2])]
    checked = 0
    for name in named:
        if name.startswith("conan_lib."):
            continue
        first, *rest = name.split(".")
        sections = [first] if first != "*" else ["pretrain", "sft", "weak", "supervised"]
        for section in sections:
            value = getattr(Params(tier="x"), section)
            for part in rest:
                value = value[part] if isinstance(value, dict) else getattr(value, part)
        checked += 1
    assert checked >= 12
