"""The cells of a grid as runs: each (cell, seed) is a tree of parameters. Stages are opened by key, so what cells share is one artefact."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from conan_lib.errors import UserError
from conan_lib.params import Params
from conan_lib.params.grid import GridParams, cell_params, flat, load_grid
from conan_lib.stages import Stage, below_root, open_stage, resolve
from conan_lib.table import SCORED


@dataclass(frozen=True, eq=False)
class Cell:
    """One cell with one seed."""

    name: str
    seed: int
    params: Params
    targets: tuple[str, ...]

    @cached_property
    def ends(self) -> tuple[Stage, ...]:
        """The stages that end the cell; the others are their inputs."""
        return tuple(open_stage(name, self.params) for name in self.targets)

    @property
    def score(self) -> Stage:
        """The one that the cell is compared by."""
        return self.ends[0]

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """Every stage of the cell in an order that can run."""
        return {name: stage for end in self.ends for name, stage in end.lineage.items()}

    @property
    def model(self) -> Stage:
        """The stage whose model is scored."""
        return self.stages[SCORED[self.score.name]]

    @property
    def traced(self) -> Stage:
        """The stage that says how its training went, step by step."""
        return self.stages.get("curve") or self.model

    @property
    def finished(self) -> bool:
        return all(stage.finished for stage in self.ends)

    @property
    def evidence(self) -> list[Stage]:
        """What a report reads of it, and has finished: what ends it, and of a supervised stage how its negatives went."""
        read = {stage.path: stage for stage in (*self.ends, *([self.traced] if self.model.name == "supervised" else ()))}
        return [stage for stage in read.values() if stage.finished]

    def __str__(self) -> str:
        return f"{self.name} (seed {self.seed})"


@dataclass(frozen=True)
class Grid:
    """A grid file with its cells opened; nothing is computed or written."""

    path: Path
    params: GridParams
    cells: tuple[Cell, ...]

    def of(self, name: str) -> list[Cell]:
        """A cell's runs in the order of their seeds; empty where there is no such cell."""
        return [cell for cell in self.cells if cell.name == name]

    @property
    def names(self) -> list[str]:
        """The cells, the baseline first."""
        names = dict.fromkeys(cell.name for cell in self.cells)
        return [self.params.baseline, *(name for name in names if name != self.params.baseline)]

    @property
    def file(self) -> str:
        """The file below the project root, as a command takes it."""
        return below_root(self.path.resolve())

    @property
    def command(self) -> str:
        """What runs this grid."""
        return f"conan-lib run --grid {self.file} --seeds {','.join(map(str, self.params.seeds))}"


def open_grid(path: str | Path, seeds: tuple[int, ...] | None = None) -> Grid:
    """Read and validate a grid with all its cells.

    Args:
        path: grid file, also looked for below the project root.
        seeds: instead of the file's.

    Raises:
        UserError: a mistake in the file or in any cell, a cell or seed that changes a stage which the grid shares, two cells that are the
            same run; the line names the cell and the key.
    """
    path = resolve(path)
    params = load_grid(path)
    if seeds is not None:
        params = params.model_copy(update={"seeds": seeds})
    trees = cell_params(path, params)
    cells = [Cell(name, seed, trees[name, seed], params.targets) for seed in params.seeds for name in params.overrides]
    grid = Grid(path, params, tuple(cells))
    _check_shared(grid)
    _check_different(grid)
    return grid


def _check_shared(grid: Grid) -> None:
    first, own = grid.cells[0], {*grid.params.stages, *grid.params.targets}
    for cell in grid.cells:
        for name, stage in cell.stages.items():
            if name not in own and ((other := first.stages.get(name)) is None or stage.key != other.key):
                keys = list(stage.artefact.parameters) if other is None else _differing(stage, other) or [f"an input of {name}"]
                raise UserError(
                    f"{grid.path}: cell {cell}: {', '.join(keys)} changes stage {name}, which all cells share: "
                    f"add {name} to stages, or leave the key alone"
                )


def _check_different(grid: Grid) -> None:
    seen: dict[str, Cell] = {}
    for cell in grid.cells:
        if (other := seen.setdefault(cell.score.key, cell)) is not cell:
            raise UserError(f"{grid.path}: cells {other} and {cell} are the same run: their keys have the same values")


def _differing(one: Stage, other: Stage) -> list[str]:
    """Dotted keys of a stage's own parameters in which two of its runs differ."""
    mine, theirs = flat(one.artefact.parameters), flat(other.artefact.parameters)
    return [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
