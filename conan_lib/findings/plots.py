"""The common look of all figures. A figure is a function from finished stages to a Drawing; notebooks and the report call the same one."""

import io
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import matplotlib.figure

from conan_lib.files import read_json
from conan_lib.stages import Stage

INK = "#1d2733"
"""Text and axes. The HTML report swaps it for the page's own text colour."""
PAPER = "#ffffff"
GREY = "#8793a0"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6F4E9B", "#8A8D00")
"""Okabe and Ito's colour-blind safe set, its yellow and black replaced by colours that show on white and on dark."""
MARKERS = "osD^vPX*"
LANGUAGES = ("en", "de", "es", "fr", "ru", "zh", "ja", "ko", "ar", "it", "pt", "nl", "pl", "tr", "vi", "hi", "id", "uk", "fa", "bn", "tl",
             "ro", "sw")  # fmt: skip
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
    """The rc context that every figure is drawn in: `with style(): drawing = Drawing(...)`."""
    return matplotlib.rc_context(STYLE)


class Drawing(matplotlib.figure.Figure):
    """A figure that is made without pyplot, and that notebooks show by themselves, whenever and wherever this module was imported."""

    def _repr_png_(self) -> bytes:
        return png(self, self.dpi, bbox_inches="tight")


def png(drawing: matplotlib.figure.Figure, dpi: float, **options: Any) -> bytes:
    """A figure as PNG, the same for the same figure. `options`: of savefig."""
    buffer = io.BytesIO()
    with style():
        drawing.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None}, **options)
    return buffer.getvalue()


def nothing(why: str) -> Drawing:
    """A figure that says why there is none."""
    with style():
        drawing = Drawing(figsize=(8.4, 0.7))
        drawing.text(0.5, 0.5, why, ha="center", va="center", color=GREY)
        return drawing


def language_colours(languages: Iterable[str]) -> dict[str, str]:
    """ISO code -> colour; a language has the same colour in every figure, whichever others are drawn."""
    colours = [*PALETTE, *(matplotlib.colors.to_hex(c) for c in matplotlib.colormaps["tab20b"].colors)]
    place = {language: i for i, language in enumerate(LANGUAGES)}
    return {language: colours[place.get(language, sum(map(ord, language))) % len(colours)] for language in languages}


def series(stage: Stage, name: str = "history.json") -> list[dict]:
    """The rows of a stage's series file.

    Raises:
        UserError: the file is missing or damaged.
    """
    return read_json(stage.path / name)
