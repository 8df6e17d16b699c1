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
    return _text(run.params.tier, run.params, mean)


def trained_in(ablation: Ablation) -> str:
    """The model of a grid's baseline, which other cells change in one thing each."""
    one, params = ablation.mean(ablation.grid.params.baseline, "crosslingual"), ablation.grid.cells[0].params
    return _text(f"grids of {ablation.grid.params.tier}", params, one.value if one else None)


def _text(name: str, params: Params, recall: float | None) -> str:
    steps = f"{params.weak.max_steps:,} + {params.supervised.max_steps:,} contrastive steps"
    return f"{name}: {steps}, R@10 {'not measured' if recall is None else f'{recall:.2f}'}"
