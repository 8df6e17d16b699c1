"""What a grid shows over the optimiser's steps: one line for each cell, the mean over its seeds, in the band of their range; and the points
of the lines as a table."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pandas as pd

from conan_lib.findings.ablation import Ablation
from conan_lib.findings.plots import PALETTE, Drawing, series, style
from conan_lib.grids import Cell
from conan_lib.stages import Stage

Curve = dict[int, float]
"""Step -> value."""
Panels = dict[str, dict[str, list[Curve]]]
"""What is measured -> cell -> a curve for each seed."""


@dataclass(frozen=True)
class Curves:
    """A kind of curves that a grid file may name.

    Attributes:
        panels: reads them from the cells that have finished.
        caption: what the figure shows.
        takeaway: the sentence above it.
        ylabel: of all panels, where they share a scale.
    """

    panels: Callable[[Ablation], Panels]
    caption: str
    takeaway: Callable[[Ablation], str]
    ylabel: str | None = None

    def draw(self, ablation: Ablation) -> Drawing:
        return _draw(self.panels(ablation), self.ylabel)

    def points(self, ablation: Ablation) -> pd.DataFrame:
        """A row for each step of each panel: a column for each cell, the mean over its seeds."""
        rows = []
        for title, cells in self.panels(ablation).items():
            stacked = {name: _stacked(curves) for name, curves in cells.items()}
            means = {name: dict(zip(steps, values.mean(0), strict=True)) for name, (steps, values) in stacked.items() if steps}
            for step in sorted({step for curve in means.values() for step in curve}):
                rows.append({"measured": title, "step": step} | {name: curve.get(step) for name, curve in means.items()})
        return pd.DataFrame(rows)


def negatives_over_steps(ablation: Ablation) -> Panels:
    """Mean score of the hard negatives in use, a panel for each task: their negatives differ in kind, and one curve would show the mix."""
    runs = {name: [scored(cell.stages["supervised"]) for cell in cells.values()] for name, cells in ablation.finished.items()}
    tasks = sorted({row.get("task", "all tasks") for own in runs.values() for rows in own for row in rows}) or ["all tasks"]
    return {
        f"negatives of {task}": {
            name: [{row["step"]: row["mean_score"] for row in rows if row.get("task", "all tasks") == task} for rows in own]
            for name, own in runs.items()
        }
        for task in tasks
    }


def weak_over_steps(ablation: Ablation) -> Panels:
    """Loss and norm of the gradients (running means over a twentieth of the steps), nDCG@10 on the development sets as the model is saved
    and at the alpha of the step, distance from the start's weights, and how far states are from those of the causal start."""
    histories, curves = (
        {name: [series(cell.stages["curve"], file) for cell in cells.values()] for name, cells in ablation.finished.items()}
        for file in ("history.json", "curve.json")
    )

    def over(runs: dict[str, list[list[dict]]], read: Callable[[list[dict]], Curve]) -> dict[str, list[Curve]]:
        return {name: [read(rows) for rows in own] for name, own in runs.items()}

    panels = {
        "loss": over(histories, lambda rows: _smoothed(rows, "loss")),
        "gradient norm": over(histories, lambda rows: _smoothed(rows, "grad_norm")),
        "nDCG@10, development sets": over(curves, lambda rows: _mean_score(rows, "saved")),
        "nDCG@10 at the step's alpha": over(curves, lambda rows: _mean_score(rows, "scheduled")),
        "distance from the start (%)": over(curves, lambda rows: {row["step"]: 100 * row["distance"] for row in rows}),
        "cosine with the causal start": over(curves, lambda rows: {row["step"]: row["cosine"] for row in rows}),
    }
    return {title: own for title, own in panels.items() if any(own.values())}


def _last(ablation: Ablation, of: Callable[[Cell], Curve]) -> str:
    """Each cell's value at its last step, mean over seeds, in words."""
    ends = {name: [curve[max(curve)] for cell in cells.values() if (curve := of(cell))] for name, cells in ablation.finished.items()}
    return ", ".join(f"{name} {np.mean(values):.2f}" for name, values in ends.items() if values)


CURVES = {
    "negatives": Curves(
        negatives_over_steps,
        "Mean score of the negatives in use",
        lambda ablation: (
            f"Mean cosine of the negatives at the last step: {_last(ablation, lambda c: negatives_of(c.stages['supervised']))}."
        ),
        ylabel="mean cosine with the anchor",
    ),
    "weak": Curves(
        weak_over_steps,
        "The weak stage step by step; loss and gradients are running means over a twentieth of the steps",
        lambda ablation: f"Loss at the end: {_last(ablation, lambda c: _smoothed(series(c.stages['curve']), 'loss'))} nats.",
    ),
}
"""What a grid file names under `curves`."""


def negatives_of(stage: Stage) -> Curve:
    """Step -> mean score of the negatives in use."""
    return {row["step"]: row["mean_score"] for row in scored(stage)}


def scored(stage: Stage) -> list[dict]:
    """Rows of negatives.json that have a mean score."""
    return [row for row in series(stage, "negatives.json") if row.get("mean_score") is not None]


def _smoothed(rows: list[dict], key: str) -> Curve:
    """Running means over a twentieth of the steps, at the last step of each window."""
    known = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    width = max(1, len(known) // 20)
    if not known:
        return {}
    means = np.convolve([value for _, value in known], np.ones(width) / width, "valid")
    return dict(zip((step for step, _ in known[width - 1 :]), means.tolist(), strict=True))


def _mean_score(rows: list[dict], which: str) -> Curve:
    return {row["step"]: float(np.mean(list(row[which].values()))) for row in rows}


def _stacked(curves: list[Curve]) -> tuple[list[int], np.ndarray]:
    """The steps that all curves have, and their values (seeds, steps); seeds without a curve are left out."""
    curves = [curve for curve in curves if curve]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    return steps, np.array([[curve[step] for step in steps] for curve in curves])


def _draw(panels: Panels, ylabel: str | None = None, across: int = 3) -> Drawing:
    down, across = -(-len(panels) // across), min(across, len(panels))
    with style():
        drawing = Drawing(figsize=(3.4 * across + 2.6, 2.9 * down + 0.3))
        axes = drawing.subplots(down, across, squeeze=False, sharey=ylabel is not None)
        handles: dict[str, object] = {}
        for axis, (title, cells) in zip(axes.flat, panels.items(), strict=False):
            axis.set(xlabel="optimiser step", title=title)
            for colour, dashes, (name, curves) in zip(
                cycle(PALETTE), cycle(("-", "--", ":")), cells.items(), strict=False
            ):  # some coincide
                steps, values = _stacked(curves)
                if steps:
                    seeds = f"{len(values)} seed{'s' * (len(values) > 1)}"
                    (line,) = axis.plot(steps, values.mean(0), color=colour, linestyle=dashes, label=f"{name} ({seeds})")
                    axis.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)
                    handles.setdefault(name, line)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        if ylabel:
            axes[0, 0].set_ylabel(ylabel)
        drawing.legend(handles=list(handles.values()), loc="outside right upper")
        return drawing
