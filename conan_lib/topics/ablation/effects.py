"""What each part adds on average: the main effects of the 2 x 2 x 2 grid."""

from itertools import product

import pandas as pd

from conan_lib.findings.ablation import Ablation
from conan_lib.findings.blocks import Table
from conan_lib.findings.over_seeds import holm
from conan_lib.findings.scores import METRIC_NAMES
from conan_lib.findings.tables import measured
from conan_lib.findings.trained import trained_in

PARTS = ("SM", "CLR", "DHNM")
CELLS = {" + ".join(name for name, on in zip(PARTS, choice, strict=True) if on) or "none": choice for choice in product((1, 0), repeat=3)}
"""A cell's name -> which of the parts it has."""


def main_effects(ablation: Ablation) -> Table | None:
    """With a part minus without it, the mean of the four pairs of cells that differ in it alone; None before all eight cells share a seed.

    The four pairs together say more of a part than any one of them: their noise is averaged too.
    """
    if not set(CELLS) <= set(ablation.grid.names):
        return None
    rows = []
    for metric in ablation.grid.params.metrics:
        found = [ablation.contrast({name: 1 / 4 if has[place] else -1 / 4 for name, has in CELLS.items()}, metric) for place in range(3)]
        if None not in found:
            for part, one, corrected in zip(PARTS, found, holm([one.p for one in found]), strict=True):
                rows.append(
                    {"metric": METRIC_NAMES[metric], "part": part}
                    | measured("with minus without", vars(one))
                    | {"p": one.p, "p corrected": corrected, "seeds": one.seeds, "artefacts": one.keys}
                )
    if not rows:
        return None
    caption = "Each part on its own: with it minus without it, the mean of the four pairs of cells that differ in it alone."
    sources, model = (ablation.grid.file,), trained_in(ablation)
    return Table(
        "main_effects", caption, pd.DataFrame(rows), sources, differences=("with minus without",), keys=("artefacts",), model=model
    )
