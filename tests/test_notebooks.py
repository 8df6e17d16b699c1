"""Notebooks are thin: few cells, one call that does the work, nothing defined, nothing run yet."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from conan_lib.run.notebooks import NOTEBOOKS
from conan_lib.table import TABLE

FOLDER = Path(__file__).parents[1] / "notebooks"
PATHS = [FOLDER / f"{name}.ipynb" for name in NOTEBOOKS]
FORBIDDEN = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.While, ast.With, ast.Try)
FILES = {"open", "read_text", "write_text", "read_bytes", "write_bytes", "savefig", "to_csv", "unlink", "mkdir"}

each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def nodes(path: Path) -> list[ast.AST]:
    return [node for cell in code_cells(path) for node in ast.walk(ast.parse(cell.source))]


def test_no_notebook_beside_the_eight():
    assert sorted(FOLDER.glob("*.ipynb")) == PATHS


@each
def test_few_cells_nothing_defined_nothing_run(path):
    cells = code_cells(path)
    assert len(cells) <= 14
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert not [type(node).__name__ for node in nodes(path) if isinstance(node, FORBIDDEN)]


@each
def test_prose_is_in_short_lines_and_ends_with_something_to_try(path):
    prose = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    assert not [line for text in prose for line in text.splitlines() if len(line) > 120 and "$$" not in line]
    tried = next(number for number, text in enumerate(prose) if text.startswith("## Try it"))
    exercise = prose[tried + 1]
    assert exercise.startswith("**Exercise.**") and "*expect*" in exercise.lower()
    assert "** - " not in exercise  # a list needs a line of its own
    assert [cell for cell in code_cells(path) if cell.source.count("explore(") == 1 and "from conan_lib.lab." in cell.source]


@each
def test_no_file_handling_and_no_pipeline(path):
    calls = [node.func for node in nodes(path) if isinstance(node, ast.Call)]
    assert not FILES & {getattr(call, "id", getattr(call, "attr", "")) for call in calls}
    modules = {node.module for node in nodes(path) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in nodes(path) if isinstance(node, ast.Import) for alias in node.names}
    assert not modules & {"conan_lib.run.notebooks", "conan_lib.run.cli", "conan_lib"}


@each
def test_files_of_an_input_are_asked_for_by_needs(path):
    """Opened out of order, a notebook then names the stage that has not run."""
    assert not [cell.source for cell in code_cells(path) if re.search(r"inputs\[[^]]+\]\.path", cell.source)]


@each
def test_first_code_cell_is_the_parameters_cell(path):
    cells = code_cells(path)
    assert cells[0].metadata.get("tags") == ["parameters"]
    assert cells[0].source.strip() == 'params_file = "params/tiny.yaml"'
    assert not [cell for cell in cells[1:] if "parameters" in cell.metadata.get("tags", [])]


@each
def test_kernel_and_opening(path):
    notebook = read(path)
    assert notebook.metadata.kernelspec.name == "python3" and notebook.nbformat == 4
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ") and len(first.source.split()) > 20


@each
def test_each_stage_is_opened_and_computed_by_one_call(path):
    source = "\n".join(cell.source for cell in code_cells(path))
    calls = [node.func.id for node in nodes(path) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    for stage in NOTEBOOKS[path.stem]:
        assert f'open_stage("{stage}", params_file)' in source
        assert TABLE[stage].function.partition(":")[2] in calls
