"""Table 6 beside our grid has a row for the LoRA that trains the embeddings, which the paper lacks, and asks for no cell that the grid
lacks; C13 has nothing to compare where the language model was pretrained elsewhere."""

from pathlib import Path

import pytest

from conan_lib.findings.run import Run
from conan_lib.grids import open_grid
from conan_lib.params import load_params
from conan_lib.topics.data.claim import CLAIM
from conan_lib.topics.training_gap import show, slopes
from conan_lib.topics.training_gap.claim import LIKE
from tests.findings.test_grid_findings import finish_cells
from tests.small_grid import GRID, write_grid

CELLS = f"""axes:
  weights: {{full: {{}}, {LIKE}: {{weak: {{lora: {{rank: 4, embeddings: true}}}}}}}}
  soft mask: {{SM: {{}}, none: {{weak: {{soft_mask: {{attention: bidirectional}}}}}}}}
baseline: full + SM
metrics: [mean]
"""


def test_the_lora_that_trains_the_embeddings_has_a_row_of_its_own(project):
    write_grid(project, GRID[: GRID.index("cells:")].replace("name: small", "name: lora") + CELLS, "lora")
    grid = open_grid("params/grids/lora.yaml")
    recall = dict(zip(("full + SM", "full", f"{LIKE} + SM", LIKE), (0.5, 0.3, 0.4, 0.2), strict=True))
    finish_cells(grid, {name: recall[name] for name in list(recall)[:3]})
    run = Run.open("params/small.yaml")
    paper, _ = show(run)["paper"], finish_cells(grid, recall)
    (whole,) = show(Run.open("params/small.yaml"))["paper"]
    assert grid.command in paper[0].caption and grid.command not in whole.caption, "ranks that the grid lacks are not asked for"
    rows = whole.frame.set_index(whole.frame.columns[0])
    assert rows.index[-1] == "LoRA, rank 32, with embeddings" and rows.iloc[-1].filter(like="the paper").isna().all()
    without, with_mask = (rows.iloc[-1][f"ours: mean of all tasks' main metrics, x 100, {arm} soft mask"] for arm in ("without", "with"))
    assert with_mask - without == pytest.approx(100 * 0.2 / 2), "two of four tasks are around the number"
    assert rows.loc["LoRA, rank 16"].filter(like="ours").isna().all()
    assert "trains the token embeddings too" in slopes(Run.open("params/small.yaml")).takeaway


def test_pretraining_elsewhere_leaves_c13_nothing_to_compare():
    file = Path(__file__).parents[2] / "params/smollm2.yaml"
    finding = CLAIM.evaluate(Run.of(load_params(file), str(file)))
    assert (finding.verdict, finding.text) == ("not run", "the pretraining is that of the start, made elsewhere")
