"""The main effects of the 2 x 2 x 2 grid: what each part adds is found again in scores to which it was added, and is the mean of four
differences between cells; with a cell missing there is no table."""

import numpy as np
import pytest

from conan_lib.findings.ablation import Ablation
from conan_lib.grids import open_grid
from conan_lib.topics.ablation.effects import CELLS, PARTS, main_effects
from tests.findings.test_grid_findings import finish_cells
from tests.small_grid import GRID, write_grid

ADDS = {"SM": 0.04, "CLR": 0.1, "DHNM": -0.02}
AXES = """axes:
  mask: {SM: {}, none: {weak: {soft_mask: {attention: causal}}}}
  clr: {CLR: {}, none: {supervised: {mix: {retrieval: 1, clr: 0}}}}
  negatives: {DHNM: {}, none: {supervised: {dhnm: {rule: static}}}}
baseline: SM + CLR + DHNM
metrics: [crosslingual, mean]
"""


@pytest.fixture
def grid(project):
    write_grid(project, GRID[: GRID.index("cells:")].replace("[0, 1]", "[0, 1, 2]") + AXES)
    return open_grid("params/grids/small.yaml")


def test_what_was_added_is_found_again(grid):
    recall = {name: 0.2 + sum(ADDS[part] for part, on in zip(PARTS, has, strict=True) if on) for name, has in CELLS.items()}
    finish_cells(grid, recall)
    ablation = Ablation(grid)
    table = main_effects(ablation).frame
    rows = table[table["metric"] == table["metric"].iloc[0]].set_index("part")
    for part in PARTS:
        assert rows.loc[part, "with minus without"] == pytest.approx(ADDS[part], abs=1e-9)
        pairs = [
            (name, " + ".join(one for one in name.split(" + ") if one != part) or "none") for name in CELLS if part in name.split(" + ")
        ]
        by_hand = np.mean([ablation.contrast({one: 1, other: -1}, "crosslingual").value for one, other in pairs])
        assert len(pairs) == 4 and rows.loc[part, "with minus without"] == pytest.approx(by_hand)
        assert len(rows.loc[part, "artefacts"]) == 8 * 3 and rows.loc[part, "seeds"] == 3


def test_seven_cells_make_no_table(grid):
    finish_cells(grid, {name: 0.3 for name in CELLS if name != "none"})
    assert main_effects(Ablation(grid)) is None
