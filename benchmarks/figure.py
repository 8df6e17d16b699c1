"""The benchmark's figures, from the rows of its CSV."""

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.results import Row, distinct
from conan_lib.findings.plots import GREY, PALETTE, style

PANELS = {"ms": "milliseconds per call", "ratio": "time / bidirectional", "peak_mb": "peak memory (MB)"}
LINES = {"weight": "-", "logit": "--", "-": ":"}


def draw(rows: list[Row], facts: dict[str, str], folder: Path) -> list[Path]:
    """One figure for each kind of heads: time, ratio to the baseline and peak memory over L; a row of panels for each direction."""
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(distinct(row.variant for row in rows))}
    paths = []
    for heads in distinct(row.heads for row in rows):
        own = [row for row in rows if row.heads == heads]
        directions = distinct(row.direction for row in own)
        with style():
            figure = Figure(figsize=(11.5, 3.0 * len(directions) + 1.3))
            for axes, direction in zip(figure.subplots(len(directions), len(PANELS), squeeze=False), directions, strict=True):
                for axis, panel in zip(axes, PANELS, strict=True):
                    _panel(axis, [row for row in own if row.direction == direction], panel, colours)
                axes[0].set_title(direction)
            handles = {label: line for axis in figure.axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
            figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
            figure.suptitle(f"heads {heads}, {own[0].dtype}, {facts['device']}, torch {facts['torch']}, {facts['date']}", x=0.01, ha="left")
            paths.append(folder / f"attention_{heads.replace('/', '_')}.svg")
            figure.savefig(paths[-1], metadata={"Date": None})
    return paths


def _panel(axis, rows: list[Row], panel: str, colours: dict[str, str]) -> None:
    for label in distinct(row.label for row in rows):
        points = [row for row in rows if row.label == label and (getattr(row, panel) or 0) > 0]
        if points:
            look = {"color": colours[points[0].variant], "linestyle": LINES[points[0].reading], "marker": "."}
            axis.plot([row.length for row in points], [getattr(row, panel) for row in points], label=label, **look)
    lengths = sorted({row.length for row in rows})
    axis.set_xscale("log", base=2)
    axis.set_xticks(lengths, labels=map(str, lengths))
    axis.set_yscale("log", base=2 if panel == "ratio" else 10)
    axis.set(xlabel="L (tokens)", ylabel=PANELS[panel])
    if panel == "ratio":
        axis.axhline(1, color=GREY, linewidth=1)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
