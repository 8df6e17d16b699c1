"""What a grid comes to: each cell's scores over its seeds, and differences between cells, paired over queries and seeds.

A number of a cell with one seed is a mean over tasks of their main metrics. Its resamples draw the items of each task (queries by their
passage, texts, pairs by their texts), the same draw for every cell and seed; V-measure belongs to a whole clustering and stays as it is.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from conan_lib.evaluation.metrics import is_main
from conan_lib.evaluation.statistics import resampled_means, resampled_spearman
from conan_lib.files import read_json
from conan_lib.findings.files import committed
from conan_lib.findings.over_seeds import holm, over_seeds
from conan_lib.grids import Cell, Grid
from conan_lib.stages import Stage, below_root

ALPHA = 0.05
"""Family-wise error of the comparisons of one metric in one grid."""


@dataclass(frozen=True)
class Estimate:
    """A cell's mean over seeds, or a contrast of cells. `corrected` is p after Holm, where it belongs to a family."""

    value: float
    low: float
    high: float
    p: float
    seeds: int
    keys: tuple[str, ...]
    corrected: float | None = None


class Ablation:
    """The finished cells of a grid; computed when asked, from result files alone.

    Args:
        grid: its cells may be unfinished: only finished ones count, and pairs need the same seeds.
    """

    def __init__(self, grid: Grid):
        self.grid = grid
        self._tasks: dict[str, dict[str, tuple[str, float, np.ndarray]]] = {}

    @cached_property
    def finished(self) -> dict[str, dict[int, Cell]]:
        """Cell -> seed -> its run, those that were scored."""
        return {name: {cell.seed: cell for cell in self.grid.of(name) if cell.score.finished} for name in self.grid.names}

    def among(self, names: Iterable[str]) -> "Ablation":
        """The same with the seeds alone that all of these cells have, so that whatever is compared is compared over the same seeds."""
        seeds = set.intersection(*(set(self.finished.get(name, ())) for name in names))
        other = Ablation(self.grid)
        other.finished = {name: {seed: cell for seed, cell in runs.items() if seed in seeds} for name, runs in self.finished.items()}
        other._tasks = self._tasks
        return other

    @property
    def begun(self) -> bool:
        """Whether there is something to compare: two cells were scored (another grid may have scored one of them), and one is whole."""
        return sum(map(bool, self.finished.values())) > 1 and any(cell.finished for cell in self.grid.cells)

    @property
    def traced(self) -> "Ablation | None":
        """The same with the runs alone whose training is here, step by step: a parcel may leave it out. None: no such run."""
        other = Ablation(self.grid)
        other.finished = {name: {seed: cell for seed, cell in runs.items() if cell.traced.finished} for name, runs in self.finished.items()}
        return other if any(other.finished.values()) else None

    @property
    def missing(self) -> list[Cell]:
        return [cell for cell in self.grid.cells if not cell.finished]

    @property
    def parcel(self) -> Path | None:
        """The committed parcel that brings missing cells, so that there are two to compare; another grid may share one."""
        here = {name for name, runs in self.finished.items() if runs}
        for path in sorted(committed(self.grid.params.tier).glob("*/index.json")):
            held = set(read_json(path)["artefacts"])
            brought = {cell.name for cell in self.missing if all(f"{end.artefact.stage}/{end.key}" in held for end in cell.ends)}
            if brought and len(here | brought) > 1:
                return path.parent
        return None

    @property
    def not_run(self) -> str:
        """What to say in the place of its numbers: the command that runs it, and the one that brings committed results of it."""
        brings = f"; `conan-lib unpack {below_root(self.parcel)}` brings the committed results" if self.parcel else ""
        return f"not run: `{self.grid.command}`{brings}"

    @property
    def unmeasured(self) -> list[str]:
        """Metrics of the grid for which its finished cells have no task."""
        metrics = self.grid.params.metrics if any(self.finished.values()) else ()
        return [metric for metric in metrics if not any(self.mean(name, metric) for name in self.grid.names)]

    def mean(self, name: str, metric: str) -> Estimate | None:
        """A cell's mean over its finished seeds; None where there is none."""
        return self.contrast({name: 1.0}, metric)

    def contrast(self, weights: Mapping[str, float], metric: str) -> Estimate | None:
        """The sum of cells' scores times their weights, over the seeds that all of them have; None where there is none, or no such task.

        Args:
            weights: cell -> factor; {"a": 1, "b": -1} is a minus b.
        """
        seeds = sorted(set.intersection(*(set(self.finished.get(name, ())) for name in weights)))
        if not seeds:
            return None
        runs = {name: [self.finished[name][seed] for seed in seeds] for name in weights}
        measured = {name: [self._measure(cell, metric) for cell in cells] for name, cells in runs.items()}
        if any(one is None for own in measured.values() for one in own):
            return None
        points = sum(weight * np.array([point for point, _ in measured[name]]) for name, weight in weights.items())
        draws = sum(weight * np.stack([draw for _, draw in measured[name]]) for name, weight in weights.items())
        keys = tuple(f"{cell.score.name}/{cell.score.key}" for cells in runs.values() for cell in cells)
        return Estimate(**over_seeds(points, draws), keys=keys)

    def against(self, metric: str, baseline: str | None = None, others: tuple[str, ...] | None = None) -> dict[str, Estimate]:
        """Other cells minus `baseline`, one family of comparisons corrected together; cells without a shared seed are left out of it.

        Args:
            baseline: the grid's by default.
            others: all other cells by default.
        """
        baseline = baseline or self.grid.params.baseline
        found = {name: self.contrast({name: 1.0, baseline: -1.0}, metric) for name in others or self.grid.names if name != baseline}
        family = {name: estimate for name, estimate in found.items() if estimate is not None}
        corrected = holm([estimate.p for estimate in family.values()])
        return {name: Estimate(**{**vars(one), "corrected": p}) for (name, one), p in zip(family.items(), corrected, strict=True)}

    def _measure(self, cell: Cell, metric: str) -> tuple[float, np.ndarray] | None:
        """A cell's number with one seed, and the same in each resample of the items, shape (R,); None where it has no such task."""
        if cell.score.key not in self._tasks:
            self._tasks[cell.score.key] = _tasks(cell.score)
        chosen = [(point, draws) for kind, point, draws in self._tasks[cell.score.key].values() if metric in ("mean", kind)]
        if not chosen:
            return None
        return float(np.mean([point for point, _ in chosen])), np.mean([draws for _, draws in chosen], axis=0)


def _tasks(stage: Stage) -> dict[str, tuple[str, float, np.ndarray]]:
    """Task -> its type, its main score, and that score in each resample of its items, shape (R,)."""
    rows = read_json(stage.path / "scores.json")
    return {row["task"]: (row["type"], row["value"], _resampled(stage, row)) for row in filter(is_main, rows)}


def _resampled(stage: Stage, row: dict) -> np.ndarray:
    resamples, seed = stage.tasks.bootstrap, zlib.crc32(row["task"].encode()) + stage.tasks.seed
    items = [read_json(path) for path in sorted((stage.path / "items").glob(f"*/{row['task']}/*.json"))]
    if row["type"] == "sts":
        (one,) = items
        left, right = zip(*one["ids"], strict=True)
        return resampled_spearman(one["gold"], one["cosine"], left, right, resamples, seed)
    if row["metric"] not in items[0]:
        return np.full(resamples, row["value"])
    values = np.concatenate([one[row["metric"]] for one in items])
    labels = [label for one in items for label in one["clusters"] or range(len(one["ids"]))]
    return resampled_means(values, resamples, seed, labels)
