"""Whose numbers these are: a run and the base of a grid are two models, each with its budget and its headline score."""

from conan_lib.findings.ablation import Ablation
from conan_lib.findings.run import Run
from conan_lib.findings.scores import METRIC_NAMES, headline
from conan_lib.params import Params


def trained_by(run: Run) -> str:
    """The run's model: its tier, contrastive steps, and headline score where it was measured."""
    found = headline(run.scores)
    return _text(run.params.tier, run.params, "supervised", found and (found.name, found.value))


def trained_in(ablation: Ablation) -> str:
    """The model of a grid's baseline, which other cells change in one thing each."""
    grid, cell = ablation.grid.params, ablation.grid.cells[0]
    found = ((METRIC_NAMES[kind], one.value) for kind in METRIC_NAMES if kind != "mean" and (one := ablation.mean(grid.baseline, kind)))
    return _text(f"grids of {grid.tier}", cell.params, cell.model.name, next(found, None))


def _text(name: str, params: Params, last: str, score: tuple[str, float] | None) -> str:
    """`last` is the stage whose model it is."""
    stages = ("weak",) if last == "weak" else ("weak", "supervised")
    steps = " + ".join(f"{getattr(params, stage).max_steps:,}" for stage in stages if params.trains(stage))
    kind = "weak" if last == "weak" else "contrastive"
    return f"{name}: {steps} {kind} steps, {'not evaluated' if score is None else f'{score[0]} {score[1]:.2f}'}"
