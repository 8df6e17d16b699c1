"""Lower layers never import higher ones, and the code that trains imports without the packages that a GPU machine may lack."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import conan_lib

ROOT = Path(conan_lib.__file__).parent
LAYERS = [
    {"errors", "table", "options", "files", "environment"},
    {"attention", "losses", "negatives"},
    {"training.tasks"},  # declarations, which the parameters name
    {"params"},
    {"artefacts"},
    {"stages"},
    {"grids"},
    {"data"},
    {"model"},
    {"training"},
    {"evaluation"},
    {"findings"},
    {"topics"},
    {"lab"},
    {"report"},
    {"run"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
TENSORS_ONLY = {"losses", "negatives"}
TRAINING = ("errors", "table", "options", "params", "artefacts", "stages", "attention", "losses", "negatives", "model", "training")
ABSENT_ON_GPU = ("datasets", "mteb", "papermill", "umap", "matplotlib", "pandas", "nbformat")
MODULES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    """The first name below conan_lib, a sub-package or a module; the registry of tasks is a room of its own."""
    return room_of([part.removesuffix(".py") for part in path.relative_to(ROOT).parts])


def room_of(parts: list[str]) -> str:
    return ".".join(parts[:2]) if ".".join(parts[:2]) in LEVEL else parts[0]


def imports(tree: ast.AST) -> set[str]:
    """Absolute names that a module imports anywhere, functions included."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def rooms_imported(path: Path) -> set[str]:
    parts = (name.split(".") for name in imports(ast.parse(path.read_text(encoding="utf-8"))))
    return {room_of(part[1:]) for part in parts if part[0] == "conan_lib" and len(part) > 1 and part[1] in LEVEL}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_a_higher_layer(path):
    own = room(path)
    if own == "__init__":
        assert not rooms_imported(path)
        return
    assert own in LEVEL, f"{own} is in no layer: add it to LAYERS"
    higher = {other for other in rooms_imported(path) if LEVEL[other] > LEVEL[own]}
    assert not higher, f"{own} imports {sorted(higher)}"


@pytest.mark.parametrize("path", [path for path in MODULES if room(path) in TENSORS_ONLY], ids=lambda path: path.stem)
def test_losses_and_negatives_see_tensors_only(path):
    assert rooms_imported(path) <= {room(path), "errors", "options"}
    assert not {name.split(".")[0] for name in imports(ast.parse(path.read_text(encoding="utf-8")))} & {
        "transformers",
        "sentence_transformers",
    }


def test_a_stranger_takes_the_method_alone():
    """One line each; no stage, no parameter file and no sentence-transformers comes along."""
    script = """
import sys
from conan_lib.negatives import NegativePool
from conan_lib.losses import cosent, info_nce, matryoshka
assert "transformers" not in sys.modules
from conan_lib.attention import set_soft_mask, to_stock
print([name for name in sys.modules if name.startswith("conan_lib.") or name == "sentence_transformers"])
"""
    found = ast.literal_eval(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert {name.split(".")[1] for name in found} == {"attention", "errors", "losses", "negatives", "options"}


def at_import(path: Path) -> set[str]:
    """Names that importing this module imports: those in functions wait for a call."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]
    return imports(tree)


def files(name: str) -> list[Path]:
    """The files of a dotted name below conan_lib that importing it executes."""
    parts = name.split(".")[1:]
    folders = [ROOT.joinpath(*parts[:depth]) / "__init__.py" for depth in range(len(parts) + 1)]
    return [path for path in [*folders, ROOT.joinpath(*parts).with_suffix(".py")] if path.is_file()]


def test_training_code_imports_without_the_packages_of_notebooks_and_reports():
    queue, seen = [path for path in MODULES if room(path) in TRAINING], {}
    while queue:
        path = queue.pop()
        seen[path] = at_import(path)
        queue += [file for name in seen[path] if name.split(".")[0] == "conan_lib" for file in files(name) if file not in seen]
    assert len(seen) > 15
    for path, names in seen.items():
        assert not set(ABSENT_ON_GPU) & {name.split(".")[0] for name in names}, path


def test_the_check_sees_an_import_inside_a_function():
    tree = ast.parse("def f():\n    from conan_lib.run import cli\n    import conan_lib.report.build")
    assert {"conan_lib.run.cli", "conan_lib.report.build"} <= imports(tree)
