"""What a grid draws over the optimiser's steps: one line for each cell, the mean over its seeds, in the band of their range."""

from collections.abc import Callable
from itertools import cycle

import numpy as np

from conan_lib.findings.ablation import Ablation
from conan_lib.findings.plots import PALETTE, Drawing, series, style
from conan_lib.grids import Cell
from conan_lib.stages import Stage

Curve = dict[int, float]
"""Step -> value."""


def negatives_over_steps(ablation: Ablation) -> Drawing:
    """Mean score of the hard negatives in use, a panel for each task: their negatives differ in kind, and one curve would show the mix."""
    runs = {name: [scored(cell.stages["supervised"]) for cell in cells.values()] for name, cells in ablation.finished.items()}
    tasks = sorted({row.get("task", "all tasks") for own in runs.values() for rows in own for row in rows}) or ["all tasks"]
    panels = {
        f"negatives of {task}": {
            name: [{row["step"]: row["mean_score"] for row in rows if row.get("task", "all tasks") == task} for rows in own]
            for name, own in runs.items()
        }
        for task in tasks
    }
    return _draw(panels, "mean cosine with the anchor")


def weak_over_steps(ablation: Ablation) -> Drawing:
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
    return _draw({title: own for title, own in panels.items() if any(own.values())})


def _last(ablation: Ablation, of: Callable[[Cell], Curve]) -> str:
    """Each cell's value at its last step, mean over seeds, in words."""
    ends = {name: [curve[max(curve)] for cell in cells.values() if (curve := of(cell))] for name, cells in ablation.finished.items()}
    return ", ".join(f"{name} {np.mean(values):.2f}" for name, values in ends.items() if values)


CURVES: dict[str, tuple[Callable[[Ablation], Drawing], str, Callable[[Ablation], str]]] = {
    "negatives": (
        negatives_over_steps,
        "Mean score of the negatives in use",
        lambda ablation: (
            f"Mean cosine of the negatives at the last step: {_last(ablation, lambda c: negatives_of(c.stages['supervised']))}."
        ),
    ),
    "weak": (
        weak_over_steps,
        "The weak stage step by step; loss and gradients are running means over a twentieth of the steps",
        lambda ablation: f"Loss at the end: {_last(ablation, lambda c: _smoothed(series(c.stages['curve']), 'loss'))} nats.",
    ),
}
"""What a grid file names under `curves` -> its figure, its caption, and the sentence above it."""


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


def _draw(panels: dict[str, dict[str, list[Curve]]], ylabel: str | None = None, across: int = 3) -> Drawing:
    """Title -> cell -> a curve for each seed, as panels."""
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
                if curves := [curve for curve in curves if curve]:
                    steps = sorted(set.intersection(*map(set, curves)))
                    values = np.array([[curve[step] for step in steps] for curve in curves])
                    (line,) = axis.plot(
                        steps, values.mean(0), color=colour, linestyle=dashes, label=f"{name} ({len(curves)} seed{'s' * (len(curves) > 1)})"
                    )
                    axis.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)
                    handles.setdefault(name, line)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        if ylabel:
            axes[0, 0].set_ylabel(ylabel)
        drawing.legend(handles=list(handles.values()), loc="outside right upper")
        return drawing
