"""Stages, artefacts, environment and parameters of the run: where every key leads."""

from collections.abc import Mapping

import pandas as pd

from conan_lib.errors import UserError
from conan_lib.findings.blocks import Block, Missing, Table, figure
from conan_lib.findings.manifests import environment_table, parameters_table, stages_block
from conan_lib.findings.plots import PALETTE, Drawing, style
from conan_lib.findings.run import Run
from conan_lib.stages import Stage


def show(run: Run) -> dict:
    environment, keys = environment_table(run.manifests.values()), tuple(run.key(name) for name in run.manifests)
    parameters = parameters_table(run.stages.values())
    return {
        "budget": figure(
            run, "budget", "Wall-clock seconds by stage.", (), lambda: budget(run.stages), lambda: longest(run), {"stages": {}}
        ),
        "stages": stages_block("stages", "Stages, artefacts, seconds, seeds.", run),
        "grids": grid_artefacts(run),
        "environment": Table("environment", "Where the stages ran; several values where they differ.", environment, keys, folded=True)
        if len(environment)
        else Missing("Environment", "no stage has finished"),
        "parameters": Table(
            "parameters", f"Parameters as run, from {run.params_file}.", parameters, (run.params_file,), "none", folded=True
        ),
    }


def longest(run: Run) -> str:
    """Which stage took the longest."""
    seconds = {name: manifest["seconds"] for name, manifest in run.manifests.items()}
    name = max(seconds, key=seconds.get)
    return f"The longest stage is {name}, {seconds[name]:,.0f} of {sum(seconds.values()):,.0f} s."


def grid_artefacts(run: Run) -> Block:
    """The artefacts of each finished cell of the tier's grids."""
    rows = [
        (ablation.grid.params.name, name, seed, *(f"{s.artefact.stage}/{s.key}" for s in (cell.model, cell.score)))
        for ablation in run.ablations.values()
        for name, runs in ablation.finished.items()
        for seed, cell in runs.items()
    ]
    if not rows:
        return Missing("Artefacts of the grids", "no cell of a grid of this tier has finished; the sections above have the commands")
    keys, frame = ("model", "scores"), pd.DataFrame(rows, columns=["grid", "cell", "seed", "model", "scores"])
    return Table("grid_artefacts", "Finished cells of the grids and their artefacts.", frame, ("manifests",), keys=keys, anchors=keys)


def budget(stages: Mapping[str, Stage]) -> Drawing:
    """Wall-clock seconds of each finished stage. `stages` is name -> Stage in the order to draw."""
    done = {name: stage.artefact.manifest["seconds"] for name, stage in stages.items() if stage.finished}
    if not done:
        raise UserError("no stage has finished, so there is no budget to draw: run `conan-lib run` first")
    with style():
        drawing = Drawing(figsize=(7.6, 0.31 * len(done) + 0.9))
        axis = drawing.subplots()
        bars = axis.barh(list(done), list(done.values()), color=PALETTE[0], height=0.66)
        axis.bar_label(bars, [f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s" for seconds in done.values()], padding=4)
        axis.invert_yaxis()
        axis.set(xlabel="wall-clock seconds", title=f"{sum(done.values()):.0f} s of work in all", xlim=(0, 1.12 * max(done.values()) or 1))
        axis.grid(axis="y", visible=False)
        return drawing
