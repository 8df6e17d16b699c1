"""A grid file: one base, cells that each override a handful of its keys, and what is compared with what.

A grid may be `like` another one: it has that file's keys save those that it gives itself, so two tiers share their cells.
"""

from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from conan_lib.errors import UserError
from conan_lib.options import mistakes
from conan_lib.params.base import Section
from conan_lib.params.load import check_kind, merge, named_in, read_tree, read_yaml, validate
from conan_lib.params.tree import Params
from conan_lib.table import SCORED, TABLE

Metric = Literal["mean", "crosslingual", "retrieval", "reranking", "classification", "clustering", "sts"]
"""mean: the main metric of every local task, averaged over the tasks; the others: over the tasks of that type."""
Overrides = dict[str, Any]
NONE = "none"
"""The label of an axis' value that a cell's name leaves out."""


class GridParams(Section):
    """What a grid file says. Cells are the product of the axes, and beside it the cells that stand alone."""

    name: str = Field(pattern=r"^[a-z0-9_-]+$")
    """Names the tables: runs/<tier>/ablations/ablation_<name>."""
    title: str
    """A line for the report."""
    tier: str
    """The tier whose report shows the grid."""
    base: str
    """Parameter file that every cell starts from, relative to the grid file."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """Training seeds; each cell is run with each."""
    seed_keys: tuple[str, ...] = Field(("weak.seed", "supervised.seed"), min_length=1)
    """Keys that a seed sets, `section.key`. Stages before the first one share one artefact over the seeds."""
    stages: tuple[Literal[*TABLE], ...]
    """Stages that may differ between cells or seeds; a cell that changes any other one is refused. What ends a cell may always."""
    target: Literal[*SCORED] = "score"
    """The stage that ends a cell: it scores the last checkpoint, or that of the weak stage (nothing is trained after it then), or of plain
    training."""
    axes: dict[str, dict[str, Overrides]] = {}
    """Axis -> label -> overridden keys. A cell's name joins its labels with " + ", leaving out `none`."""
    cells: dict[str, Overrides] = {}
    """Cells beside the axes: name -> overridden keys."""
    baseline: str
    """The cell that the others are compared with: the paper's setting."""
    metrics: tuple[Metric, ...] = Field(("mean", "crosslingual", "retrieval"), min_length=1)
    """What is compared. The comparisons of one metric are one family, corrected together (Holm)."""

    curves: Literal["negatives", "weak"] | None = None
    """What is drawn over the steps beside the differences. negatives: the mean score of the hard negatives in use. weak: loss, gradients,
    and by stage `curve`, which then runs for each cell too, what its snapshots are worth on the development sets."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The stages that end a cell."""
        return (self.target, "curve") if self.curves == "weak" else (self.target,)

    @property
    def overrides(self) -> dict[str, Overrides]:
        """Cell -> overridden keys, the axes' product first."""
        return dict(self._listed())

    def _listed(self) -> list[tuple[str, Overrides]]:
        found = []
        for labels in product(*self.axes.values()) if self.axes else ():
            over: Overrides = {}
            for axis, label in zip(self.axes.values(), labels, strict=True):
                over = merge(over, axis[label], "axes")
            found.append((" + ".join(label for label in labels if label != NONE) or NONE, over))
        return [*found, *self.cells.items()]

    @model_validator(mode="after")
    def _cells_fit(self):
        names = [name for name, _ in self._listed()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two cells are called {', '.join(twice)}: give axes' labels and cells different names")
        if len(names) < 2:
            raise ValueError("give at least two cells, under axes or under cells")
        if self.curves == "negatives" and self.target != "score":
            raise ValueError("curves: negatives are those of the supervised stage: leave target out, or curves")
        if self.baseline not in names:
            raise ValueError(f"baseline: no cell {self.baseline!r}; the cells are {', '.join(names)}")
        for one, two in ((a, b) for a in self.axes for b in self.axes if a < b):
            first, second = ({key for over in self.axes[axis].values() for key in flat(over)} for axis in (one, two))
            if both := first & second:
                raise ValueError(f"axes: {one} and {two} both set {', '.join(sorted(both))}: one axis, one key")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("seeds: give different numbers from 0 up")
        for name, over in self.overrides.items():
            if wrong := set(over) & {"tier", "runtime", "base"}:
                raise ValueError(f"cell {name}: {', '.join(sorted(wrong))}: a cell overrides the stages' sections only")
        return self


def load_grid(path: str | Path) -> GridParams:
    """Read a grid file.

    Raises:
        UserError: the file or the one that it is like is missing, is not YAML, or a key is unknown, mistyped or impossible; one line names
            each.
    """
    raw = read_yaml(Path(path), "grid file")
    if (other := raw.pop("like", None)) is not None:
        if not isinstance(other, str):
            raise UserError(f"{path}: like: {other!r} is no file name: give a grid file, relative to this file")
        with named_in(path, "like"):
            other_raw = read_yaml(Path(path).parent / other, "grid file")
        raw = merge(other_raw, raw, str(path))
    check_kind(raw, "grid", str(path))
    try:
        return GridParams.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{path}: {mistakes(error, GridParams)}") from None
    except UserError as error:  # of merge, which does not know the file here
        raise UserError(f"{path}: {error}") from None


def cell_params(path: str | Path, grid: GridParams) -> dict[tuple[str, int], Params]:
    """(cell, seed) -> its tree: the base, the cell's keys over it, the seed over those.

    Raises:
        UserError: the base is missing, or a cell's keys are unknown, mistyped or impossible; the line names the cell and the key.
    """
    with named_in(path, "base"):
        base, trees = read_tree(Path(path).parent / grid.base), {}
    for name, over in grid.overrides.items():
        where = f"{path}: cell {name}"
        for seed in grid.seeds:
            trees[name, seed] = validate(merge(merge(base, over, where), _nested(grid.seed_keys, seed, where), where), where)
    return trees


def _nested(keys: tuple[str, ...], value: Any, where: str) -> Overrides:
    """{"a.b", "a.c"} and a value -> {"a": {"b": value, "c": value}}."""
    tree: Overrides = {}
    for key in keys:
        inner = value
        for part in reversed(key.split(".")):
            inner = {part: inner}
        tree = merge(tree, inner, f"{where}: seed_keys")
    return tree


def flat(tree: dict, prefix: str = "") -> dict[str, Any]:
    """Dotted path -> value."""
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
