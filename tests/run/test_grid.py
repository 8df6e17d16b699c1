"""A grid trains every cell with every seed once, each shared stage once; killed at any moment and started again it ends with the weights of
an uninterrupted run; a failed cell loses no other one and is named; a dry run writes nothing and says what is shared and how long it takes.
"""

import json

import pytest
import yaml
from rich.console import Console
from safetensors.torch import load_file

from conan_lib.errors import RunError, UserError
from conan_lib.grids import open_grid
from conan_lib.run.clock import Clock
from conan_lib.run.grid import run_grid
from conan_lib.run.worker import compute_logged
from conan_lib.stages import compute, open_stage, project_root
from conan_lib.training.recorder import Recorder
from tests.small_grid import FILE, GRID, commit, write_grid
from tests.small_pairs import finish_inputs, pair_params
from tests.small_stages import write_corpus, write_heldout

pytestmark = pytest.mark.usefixtures("one_environment")
QUIET = Console(quiet=True)


@pytest.fixture
def small(project):
    """The project with a grid of 2 cells and 2 seeds, and an executor that commits by hand; yields the stages that it was called for."""
    write_grid(project)
    called = []

    def execute(stage, log):
        called.append(stage)
        commit(stage)

    execute.called = called
    return execute


@pytest.fixture
def trainable(project):
    """The same with real stages of seconds: everything before `weak` finished."""
    params = pair_params(
        "artefacts",
        runtime={"save_steps": 3},
        weak={"max_steps": 4},
        supervised={"max_steps": 5},
        tasks={"max_length": 32, "experiments": 2, "bootstrap": 20},
    )
    (project / "params/small.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json") | {"tier": "small"}))
    finish_inputs(params)
    write_corpus(open_stage("corpus", params).path)
    heldout = open_stage("heldout", params)
    with heldout.work() as work:
        write_heldout(heldout.path)
        work.commit({})
    write_grid(project, GRID.replace("seeds: [0, 1]", "seeds: [0]"))
    return project


def weights(stage):
    (path,) = (stage.path / "model").rglob("model.safetensors")
    return load_file(path)


def test_a_grid_ends_as_if_it_had_not_been_killed(trainable, monkeypatch):
    steps, real = [], Recorder.on_step_end

    def dying(self, *args, **kwargs):
        steps.append(args[1].global_step)
        if len(steps) == 4 + 4:  # within the supervised stage of the first cell, after its first checkpoint
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Recorder, "on_step_end", dying)
    with pytest.raises(KeyboardInterrupt):
        run_grid(FILE, console=QUIET, execute=compute_logged)
    monkeypatch.setattr(Recorder, "on_step_end", real)
    grid = open_grid(FILE)
    (cell,) = [cell for cell in grid.cells if cell.stages["supervised"].status == "partial"]
    assert cell.stages["mine"].finished and any((cell.stages["supervised"].path / "checkpoints").glob("checkpoint-3"))
    before = cell.stages["weak"].artefact.manifest

    grid = run_grid(FILE, console=QUIET, execute=compute_logged)
    assert all(cell.finished for cell in grid.cells) and cell.stages["weak"].artefact.manifest == before
    assert len(list((trainable / "artefacts/supervised").iterdir())) == 2 and len(list((trainable / "artefacts/pretrain").iterdir())) == 1
    written = sorted(path.name for path in (trainable / "runs/small/ablations").iterdir())
    assert written == ["ablation_small.csv", "ablation_small.md", "ablation_small.png"]

    again = trainable / "again"
    again.mkdir()
    for name in ("corpus", "sets", "heldout", "tokenizer", "pretrain", "sft", "teacher"):
        (again / name).symlink_to(trainable / "artefacts" / name)
    for cell in (grid.cells[0], grid.cells[-1]):  # the one that was killed, and the last to be trained in this process
        alone = cell.params.model_copy(update={"runtime": cell.params.runtime.model_copy(update={"artefacts": str(again)})})
        for name in ("weak", "mine", "supervised"):
            fresh = compute(open_stage(name, alone))
        expected, found = weights(fresh), weights(cell.stages["supervised"])
        assert fresh.key == cell.stages["supervised"].key and all((expected[name] == found[name]).all() for name in expected)


def test_every_stage_runs_once_and_a_second_run_does_nothing(small):
    grid = run_grid(FILE, console=QUIET, execute=small)
    assert len(small.called) == len({stage.key for stage in small.called}) == 7 + 4 * 4
    order = [stage.key for stage in small.called]
    for stage in small.called:
        assert all(order.index(other.key) < order.index(stage.key) for other in stage.inputs.values())
    small.called.clear()
    assert run_grid(FILE, console=QUIET, execute=small) and small.called == []
    more = run_grid(FILE, seeds=(0, 1, 2), console=QUIET, execute=small)
    assert len(small.called) == 2 * 4 and len(more.cells) == 6 and len(grid.cells) == 4


def test_cells_may_end_in_scores_and_curves_of_the_weak_stage(small, project):
    write_grid(project, GRID.replace("seeds:", "target: score_weak\ncurves: weak\nseeds:"))
    grid = run_grid(FILE, console=QUIET, execute=small)
    assert all(cell.finished for cell in grid.cells) and len(small.called) == len({stage.key for stage in small.called}) == 7 + 4 * 3
    assert {stage.name for stage in small.called} >= {"weak", "score_weak", "curve"} and list(grid.cells[0].stages)[-1] == "curve"
    assert not {stage.name for stage in small.called} & {"mine", "supervised", "score"}


def test_a_failed_cell_loses_no_other(small):
    broken = open_grid(FILE).of("causal")[0].stages["mine"].key

    def execute(stage, log):
        return "ValueError: no anchors" if stage.key == broken else small(stage, log)

    with pytest.raises(RunError) as error:
        run_grid(FILE, console=QUIET, execute=execute)
    line = str(error.value)
    assert line.startswith(
        f"1 of 4 cells failed: causal (seed 0): stage mine {broken}: ValueError: no anchors (see artefacts/grids/small/mine-"
    )
    assert [cell.finished for cell in open_grid(FILE).cells] == [True, False, True, True]
    table = (project_root() / "runs/small/ablations/ablation_small.md").read_text()
    assert "3 of 4 runs finished; not run: causal (seed 0): `conan-lib run --grid" in table
    small.called.clear()
    run_grid(FILE, console=QUIET, execute=small)
    assert [stage.name for stage in small.called] == ["mine", "supervised", "score"]


def test_a_shared_stage_that_fails_fails_every_cell(small):
    def execute(stage, log):
        return "boom" if stage.name == "tokenizer" else small(stage, log)

    with pytest.raises(RunError, match="4 of 4 cells failed"):
        run_grid(FILE, console=QUIET, execute=execute)
    assert [stage.name for stage in small.called] == ["corpus", "heldout", "sets", "teacher"], (
        "nothing that is made from a failed stage is tried"
    )


def test_the_data_of_every_cell_is_checked_before_anything_runs(small, project):
    text = GRID.replace("stages: [weak", "stages: [corpus, sets, heldout, tokenizer, pretrain, sft, teacher, weak")
    write_grid(project, text.replace("{weak: {soft_mask: {attention: causal}}}", "{data: {languages: [en, la]}}"))
    with pytest.raises(UserError, match=r"data\.languages: no embedded text in 'la'"):
        run_grid(FILE, console=QUIET, execute=small)
    assert small.called == []


def test_a_dry_run_says_what_is_shared_and_how_long_it_takes(small, project, conan):
    run_grid(FILE, seeds=(0,), console=QUIET, execute=small)
    for name, seconds in (("weak", 100), ("mine", 7), ("supervised", 3), ("score", 2)):
        for path in (project / "artefacts" / name).glob("*/manifest.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds}))
    before = sorted(project.rglob("*"))
    code, out, err = conan("run", "--grid", FILE, "--seeds", "0,1", "--dry-run")
    assert (code, err) == (0, "") and sorted(project.rglob("*")) == before
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["soft"] == ["nothing", "weak", "mine", "supervised", "score"]
    assert rows["pretrain"] == ["1", "1", "0"] and rows["weak"] == ["4", "2", "2", "about", "3", "min", "left"]
    assert out.splitlines()[-1].startswith("8 stages to do; about 4 min left")


def test_time_is_that_of_the_most_like_stage_by_its_steps(small, project):
    run_grid(FILE, seeds=(0,), console=QUIET, execute=small)
    for cell, seconds in zip(open_grid(FILE, (0,)).cells, (100, 40), strict=True):
        path = cell.stages["weak"].path / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds}))
    write_grid(
        project, GRID.replace("{weak: {soft_mask: {attention: causal}}}", "{weak: {max_steps: 500, soft_mask: {attention: causal}}}")
    )
    grid = open_grid(FILE, (1,))
    clock = Clock(stage for cell in grid.cells for stage in cell.stages.values())
    assert [clock.seconds(cell.stages["weak"]) for cell in grid.cells] == [100, 20]
    assert clock.left([cell.stages["weak"] for cell in grid.cells]) == "about 2 min left"


@pytest.mark.parametrize(
    "arguments",
    [
        ("params/small.yaml", "--grid", FILE),
        ("--grid", FILE, "--from", "weak"),
        ("--grid", FILE, "--seeds", "0,x"),
        ("--grid", FILE, "--seeds", "1,1"),
        ("--seeds", "1"),
        ("params/small.yaml", "--dry-run"),
        ("--grid", "params/grids/none.yaml"),
    ],
)
def test_a_bad_call_is_one_line(project, conan, arguments):
    write_grid(project)
    code, _, err = conan("run", *arguments)
    assert code == 2 and err.startswith("conan-lib: ") and err.count("\n") == 1 and not (project / "artefacts").exists()
