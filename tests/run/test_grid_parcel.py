"""The results of a job are what a report reads of its grids: unpacked where nothing else is, they draw the same table and curves."""

import shutil

import pytest

from conan_lib.findings.grids import write_ablation
from conan_lib.grids import open_grid
from conan_lib.run.grid import lacking
from conan_lib.run.job import open_job
from conan_lib.run.parcel import pack, unpack
from tests.small_grid import GRID, commit, write_grid

pytestmark = pytest.mark.usefixtures("one_environment")


@pytest.mark.parametrize(
    "keys, evidence",
    [("curves: negatives", ("score", "supervised")), ("curves: weak\ntarget: score_weak", ("curve", "score_weak"))],
    ids=["negatives", "weak"],
)
def test_a_parcel_of_results_draws_what_was_drawn_where_it_was_packed(project, keys, evidence):
    file = write_grid(project, GRID.replace("metrics:", f"{keys}\nmetrics:"))
    (project / "params/ours.yaml").write_text("name: ours\ngiven: []\nsteps: [{grid: grids/small.yaml}]\n")
    for cell in open_grid(file).cells:
        for task in lacking([cell]):
            commit(task.stages[0], {"soft": 0.3, "causal": 0.2}[cell.name])
    drawn = {path.name: path.read_bytes() for path in write_ablation(open_grid(file)).parent.iterdir()}
    pack(open_job("params/ours.yaml").evidence, project / "parcel", what="results")
    shutil.rmtree(project / "artefacts")
    unpack(project / "parcel", project / "artefacts")
    assert sorted(path.parent.name for path in project.glob("artefacts/*/*")) == [evidence[0]] * 4 + [evidence[1]] * 4
    shutil.rmtree(project / "runs")
    assert {path.name: path.read_bytes() for path in write_ablation(open_grid(file)).parent.iterdir()} == drawn and len(drawn) == 5
