"""Whose numbers these are: a run and the base of a grid are two models, each with its budget and its headline score."""

from conan_lib.evaluation.metrics import MEAN
from conan_lib.findings.ablation import Ablation
from conan_lib.findings.run import Run
from conan_lib.findings.scores import CROSSLINGUAL, RECALL
from conan_lib.params import Params


def trained_by(run: Run) -> str:
    """The run's model: its tier, contrastive steps, and mean cross-lingual R@10 where it was measured."""
    own = [row for row in run.scores if (row["model"], row["task"], row["metric"]) == ("supervised", CROSSLINGUAL, RECALL)]
    mean = next((row["value"] for row in own if row["subset"] == MEAN), None)
    return _text(run.params.tier, run.params, "supervised", {"R@10": mean})


def trained_in(ablation: Ablation) -> str:
    """The model of a grid's baseline, which other cells change in one thing each."""
    grid, cell = ablation.grid.params, ablation.grid.cells[0]
    means = {label: ablation.mean(grid.baseline, kind) for label, kind in (("R@10", "crosslingual"), ("nDCG@10", "retrieval"))}
    return _text(f"grids of {grid.tier}", cell.params, cell.model.name, {label: one and one.value for label, one in means.items()})


def _text(name: str, params: Params, last: str, scores: dict[str, float | None]) -> str:
    """`last` is the stage whose model it is; of the scores the first that was measured is told."""
    steps = f"{params.weak.max_steps:,}" + (f" + {params.supervised.max_steps:,} contrastive" if last == "supervised" else " weak")
    score = next((f"{label} {value:.2f}" for label, value in scores.items() if value is not None), "R@10 not measured")
    return f"{name}: {steps} steps, {score}"
