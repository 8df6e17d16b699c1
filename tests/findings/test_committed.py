"""Pins: a grid whose artefacts are gone is read from its committed table: means, differences to the baseline and verdicts are those of the
table, other pairs have none, and the page says of which revision it is; a run's own cells come first."""

import json
from pathlib import Path

import pytest

from conan_lib.findings.committed import CommittedAblation
from conan_lib.findings.run import Run
from conan_lib.report.build import build_report
from conan_lib.report.evidence import publish

CELLS = {"weight + l/i": (0.50, None), "abrupt": (0.48, -0.02), "causal": (0.40, -0.10)}


@pytest.fixture
def masks(fake_run) -> str:
    """A finished run with grid masks, of which only the table is committed: abrupt is 0.02 [0.01, 0.03] below the soft mask."""
    root = Path(__file__).parents[2] / "params"
    for name in ("grids/masks.yaml", "bases/tiny-grid.yaml"):
        (Path("params") / name).parent.mkdir(exist_ok=True)
        (Path("params") / name).write_text((root / name).read_text())
    folder = Path("reports/tiny/ablations")
    folder.mkdir(parents=True)
    lines = ["metric,cell,seeds,mean,low,high,difference,difference low,difference high,p,p corrected,artefacts"]
    for cell, (mean, less) in CELLS.items():
        rest = f"{less},{less - 0.01},{less + 0.01},0.002,0.004" if less else ",,,,"
        lines.append(f"mean,{cell},3,{mean},{mean - 0.1},{mean + 0.1},{rest},score/{cell[0]}1 score/{cell[0]}2")
    (folder / "ablation_masks.csv").write_text("\n".join(lines) + "\n")
    known = {"tier": "tiny", "finished": "2026-01-02T03:04:05Z", "revisions": ["abc"], "unfinished": []}
    (folder.parent / "run.json").write_text(json.dumps(known))
    return fake_run()


def test_its_numbers_are_those_of_the_table_and_pairs_that_it_lacks_have_none(masks):
    grid = Run.open(masks).ablations["masks"]
    assert isinstance(grid, CommittedAblation) and grid.mean("abrupt", "mean").value == 0.48
    for weights, value in (({"abrupt": 1, "weight + l/i": -1}, -0.02), ({"weight + l/i": 1, "abrupt": -1}, 0.02)):
        one = grid.contrast(weights, "mean")
        assert one.value == value and (round(one.low, 9), round(one.high, 9)) == (round(value - 0.01, 9), round(value + 0.01, 9))
        assert one.seeds == 3 and one.keys == ("score/w1", "score/w2", "score/a1", "score/a2")
    assert grid.contrast({"abrupt": 1, "causal": -1}, "mean") is None and grid.contrast({"logit + l/i": 1}, "mean") is None
    assert [name for name, one in grid.against("mean").items() if one.corrected == 0.004] == ["abrupt", "causal"]
    assert not any(grid.finished.values()) and not grid.against("retrieval")


def test_the_report_judges_by_it_says_whose_it_is_and_keeps_saying_so_after_publication(masks):
    for made in (build_report(masks), publish(masks).folder, publish(masks).folder):
        row = next(row for row in json.loads((made / "claims.json").read_text()) if row["id"] == "C1")
        assert (row["verdict"], row["effect"], row["seeds"]) == ("reproduced", 0.02, 3) and "committed 2026-01-02" in row["model"]
        text = (made / "report.md").read_text()
        assert "Not of this run: the committed table, finished 2026-01-02, revision abc" in text
        assert "abrupt" in (made / "tables/ablation_masks.csv").read_text()
    assert json.loads((made / "run.json").read_text())["grids"] == {"masks": {"finished": "2026-01-02T03:04:05Z", "revisions": ["abc"]}}
    assert (made / "ablations/ablation_masks.csv").is_file()
