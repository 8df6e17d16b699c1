"""Stages, artefacts, environment and parameters of the run: where every key leads."""

from collections.abc import Mapping

import pandas as pd

from conan_lib.errors import UserError
from conan_lib.findings.blocks import Block, Missing, Table, figure
from conan_lib.findings.manifests import environment_table, parameters_table, stages_block
from conan_lib.findings.plots import INK, PALETTE, PAPER, Drawing, style
from conan_lib.findings.run import Run
from conan_lib.stages import Stage
from conan_lib.table import CHECKPOINTS, RUN, TABLE


def show(run: Run) -> dict:
    environment, keys = environment_table(run.manifests.values()), tuple(run.key(name) for name in run.manifests)
    parameters = parameters_table(run.stages.values())
    return {
        "budget": figure(run, "budget", "Wall-clock seconds by stage.", (), lambda: budget(run.stages)),
        "stages": stages_block("stages", "Stages, artefacts, seconds, seeds.", run),
        "grids": grid_artefacts(run),
        "environment": Table("environment", "Where the stages ran; several values where they differ.", environment, keys, folded=True)
        if len(environment)
        else Missing("Environment", "no stage has finished"),
        "parameters": Table(
            "parameters", f"Parameters as run, from {run.params_file}.", parameters, (run.params_file,), "none", folded=True
        ),
    }


def grid_artefacts(run: Run) -> Block:
    """The artefacts of each finished cell of the tier's grids."""
    rows = [
        (ablation.grid.params.name, name, seed, *(f"{s.artefact.stage}/{s.key}" for s in (cell.stages["supervised"], cell.score)))
        for ablation in run.ablations.values()
        for name, runs in ablation.finished.items()
        for seed, cell in runs.items()
    ]
    if not rows:
        return Missing("Artefacts of the grids", "no cell of a grid of this tier has finished; the sections above have the commands")
    keys, frame = ("supervised", "score"), pd.DataFrame(rows, columns=["grid", "cell", "seed", "supervised", "score"])
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


def pipeline() -> Drawing:
    """The table of stages as a graph: each stands before what is made from it, what is measured stands last. Arrows that follow from others
    are left out."""
    depth, before = {}, {}
    for name in RUN:
        inputs = [other for other in TABLE[name].inputs if other in depth]
        depth[name] = max((depth[other] + 1 for other in inputs), default=0)
        before[name] = set(inputs).union(*(before[other] for other in inputs))
    for name in reversed(RUN):
        depth[name] = min((depth[other] - 1 for other in RUN if name in TABLE[other].inputs), default=max(depth.values()))
    columns = [[name for name in RUN if depth[name] == place] for place in range(max(depth.values()) + 1)]
    for names in columns:
        names.sort(key=lambda name: (name not in CHECKPOINTS, -len(before[name])))
    places = {name: (x, -row) for x, names in enumerate(columns) for row, name in enumerate(names)}
    box = {"boxstyle": "round,pad=0.45", "facecolor": PAPER, "linewidth": 1.6}
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1, "shrinkA": 32, "shrinkB": 32}
    with style():
        drawing = Drawing(figsize=(1.75 * len(columns), 0.6 * max(map(len, columns)) + 0.3))
        axis = drawing.subplots()
        axis.set(xlim=(-0.6, len(columns) - 0.4), ylim=(0.6 - max(map(len, columns)), 0.6))
        axis.set_axis_off()
        for name, place in places.items():
            for other in before[name].intersection(TABLE[name].inputs):
                if not any(other in before[closer] for closer in TABLE[name].inputs if closer in before):
                    bend = 0.15 if place[0] - places[other][0] > 1 else 0  # around the boxes between
                    axis.annotate("", place, places[other], arrowprops=arrow | {"connectionstyle": f"arc3,rad={bend}"}, zorder=1)
        for name, (x, y) in places.items():
            colour = PALETTE[0] if name in CHECKPOINTS else PALETTE[2] if TABLE[name].notebook < "07" else PALETTE[1]
            label = f"{name.replace('_no_', chr(10) + 'no ')}\n{TABLE[name].notebook[:2]}"
            axis.text(x, y, label, ha="center", va="center", fontsize=9, bbox=box | {"edgecolor": colour}, zorder=2)
        said = "blue: the four training stages; green: what they are fed; orange: what is measured. Numbers: notebooks."
        drawing.text(0.01, 0.01, said, fontsize=8.5)
        return drawing
