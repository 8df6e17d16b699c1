"""A job computes each stage once, the most wanted first and after its inputs, as many at once as it may; what is given is never computed.
When the minutes are up nothing new begins, training saves and stops, and the next call ends with the weights of a run that never stopped. A
failed stage costs only what is made from it.
"""

import io
import multiprocessing
import time
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from conan_lib import job as jobs
from conan_lib.errors import Stopped, UserError
from conan_lib.job import open_job, run_job
from conan_lib.params import load_params
from conan_lib.pipeline import RunError, compute
from conan_lib.stages import GRAPH, open_stage
from conan_lib.training.contrastive import supervised_tasks
from conan_lib.training.mine import PAIR_TASKS
from tests.small_grid import GRID, commit, write_grid
from tests.small_pairs import finish_inputs, pair_params

pytestmark = pytest.mark.usefixtures("one_environment")
ROOT = Path(__file__).parents[1]
FILE = "params/jobs/small.yaml"
JOB = """
name: small
workers: 2
grace: 0
steps:
  - {run: ../small.yaml, stages: [supervised, supervised_no_clr]}
  - {grid: ../grids/small.yaml, seeds: [0]}
"""


class ByHand:
    """A worker that commits a stage instead of computing it; `hanging` and `failing` name stages that do not end or go wrong."""

    sent: list = []
    hanging: set = set()
    failing: set = set()
    alive = True

    def __init__(self, params):
        self.answers, self._there = multiprocessing.Pipe()

    def send(self, stage, log):
        self._stage = stage
        ByHand.sent.append(stage)
        log.write_text("so far\n")
        if stage.name not in ByHand.hanging:
            self._there.send(None)

    def answer(self):
        self.answers.recv()
        stage = self._stage
        return "ValueError: no" if stage.name in ByHand.failing else commit(stage)

    def stop(self):
        pass


@pytest.fixture
def small(project, monkeypatch):
    """A job over a run and a grid of two cells; data, tokenizer and teacher are here."""
    write_grid(project, GRID.replace("name: small", "name: cells"))
    (project / "params/jobs").mkdir()
    (project / FILE).write_text(JOB)
    for name in ("data", "tokenizer", "teacher"):
        commit(open_stage(name, "params/small.yaml"))
    monkeypatch.setattr(jobs, "Worker", ByHand)
    monkeypatch.setattr(ByHand, "sent", [])
    return project


def said(*arguments, **options) -> str:
    """What a call of run_job prints."""
    console = Console(width=200, record=True, quiet=False, file=io.StringIO())
    try:
        run_job(FILE, *arguments, console=console, **options)
    finally:
        text = console.export_text()
    return text


def test_each_stage_once_in_the_order_of_worth_and_after_its_inputs(small):
    before = [task.stage.name for task in open_job(FILE).tasks]
    assert before[:6] == ["pretrain", "sft", "weak", "mine", "supervised", "supervised_no_clr"] and "data" not in before
    text = said()
    keys = [stage.path for stage in ByHand.sent]
    assert len(keys) == len(set(keys)) == len(before) == 6 + 1 + 4  # the grid's first cell is the run itself, scored
    for number, stage in enumerate(ByHand.sent):
        assert all(other.path in keys[:number] or other.name in ("data", "tokenizer", "teacher") for other in stage.inputs.values())
    assert [stage.name for stage in ByHand.sent][:4] == ["pretrain", "sft", "weak", "weak"]  # the second worker took the grid's
    assert "11 of 11" not in text and "6 of 6" in text and "5 of 5" in text
    assert not open_job(FILE).todo
    ByHand.sent.clear()
    run_job(FILE, console=Console(quiet=True))
    assert ByHand.sent == []


def test_a_run_with_seeds_is_run_with_each_and_threads_are_the_workers(small):
    """Seeds go to what trains; what a run of the file itself has made is used; threads change no key."""
    (small / FILE).write_text("name: small\nthreads: 1\nsteps: [{run: ../small.yaml, stages: [weak, mine], seeds: [0, 4]}]")
    tasks = open_job(FILE).tasks
    assert [(task.title, task.stage.name) for task in tasks] == [
        (f"small: seed {seed}", name) for seed in (0, 4) for name in ("pretrain", "sft", "weak", "mine")
    ]
    assert [task.stage.key for task in tasks[:4]] == [open_stage(t.stage.name, "params/small.yaml").key for t in tasks[:4]]
    assert {getattr(task.stage, task.stage.name).seed for task in tasks[4:7]} == {4}
    assert tasks[-1].stage.mine == tasks[3].stage.mine and tasks[-1].stage.key != tasks[3].stage.key
    said()
    assert len(ByHand.sent) == 8 and {stage.runtime.threads for stage in ByHand.sent} == {1}
    assert not open_job(FILE).todo


def test_what_is_given_must_be_here(small):
    (open_stage("teacher", "params/small.yaml").path / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"teacher/[0-9a-f]{16} not here: carry it"):
        run_job(FILE)
    assert ByHand.sent == []


def test_a_dry_run_computes_nothing(small):
    assert "0 of 6" in said(dry_run=True) and ByHand.sent == []


def test_a_failure_costs_what_is_made_from_it(small, monkeypatch):
    monkeypatch.setattr(ByHand, "failing", {"mine"})
    with pytest.raises(RunError, match=r"^2 stages failed: mine [0-9a-f]{16}: ValueError: no; mine"):
        run_job(FILE, console=Console(quiet=True))
    assert [stage.name for stage in ByHand.sent] == ["pretrain", "sft", "weak", "weak", "mine", "mine"]
    monkeypatch.setattr(ByHand, "failing", set())
    run_job(FILE, console=Console(quiet=True))
    assert not open_job(FILE).todo


def test_at_the_deadline_nothing_begins_and_what_hangs_is_left(small, monkeypatch):
    with pytest.raises(Stopped, match="the time is up with 11 of 11 stages left"):
        run_job(FILE, 0, console=Console(quiet=True))
    assert ByHand.sent == []
    monkeypatch.setattr(ByHand, "hanging", {"sft"})
    start = time.monotonic()
    with pytest.raises(Stopped, match="10 of 11"):
        run_job(FILE, 1 / 60, console=Console(quiet=True))
    assert 0.9 < time.monotonic() - start < 10 and [stage.name for stage in ByHand.sent] == ["pretrain", "sft"]
    assert ByHand.sent[-1].runtime.deadline == pytest.approx(time.time(), abs=10)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: small\nsteps: [{run: ../small.yaml}]", "steps.0: stages belong to run"),
        ("name: small\nsteps: [{stages: [weak]}]", "steps.0: give either run or grid"),
        ("name: small\nsteps: []", "steps: "),
        ("name: small\nsteps: [{run: ../small.yaml, stages: [weak], seeds: [1, 1]}]", "seeds: give different numbers from 0 up"),
        ("name: small\nsteps: [{run: ../small.yaml, stages: [weak], seeds: [4294967296]}]", "seeds: give different numbers from 0 up"),
        ("name: small\nstep: []", "step: unknown key, did you mean steps?"),
    ],
)
def test_a_mistake_is_one_line(small, text, line):
    (small / FILE).write_text(text)
    with pytest.raises(UserError, match=line.replace("?", r"\?")):
        open_job(FILE)


def weights(stage):
    (path,) = (stage.path / "model").rglob("model.safetensors")
    return load_file(path)


def test_stopped_and_resumed_training_ends_with_the_same_weights(tmp_path):
    """Every stage with steps, stopped after each of its first steps."""

    def params(name, deadline=None):
        return pair_params(
            tmp_path / name,
            runtime={"save_steps": 100, "deadline": deadline},
            **{stage: {"max_steps": 3} for stage in ("sft", "weak", "supervised")},
        )

    for name in ("whole", "stopped"):
        finish_inputs(params(name))
    for stage in ("weak", "mine", "supervised"):
        whole = compute(open_stage(stage, params("whole")))
        for step in (1, 2) if stage != "mine" else ():
            with pytest.raises(Stopped, match=f"stopped at step {step} of 3"):
                compute(open_stage(stage, params("stopped", deadline=1.0)))
        last = compute(open_stage(stage, params("stopped", deadline=1.0)))  # the last step ends the stage, late or not
        assert last.finished and last.key == whole.key
        if stage != "mine":
            assert all((weights(whole)[name] == weights(last)[name]).all() for name in weights(whole))


def test_our_jobs_open_and_share_what_is_prepared_and_pretrained(monkeypatch):
    """One parcel of text and, save for the grid about pretraining, one language model; the machine at home has the same keys."""
    monkeypatch.chdir(ROOT)
    for path in sorted((ROOT / "params/jobs").glob("*.yaml")):
        job, given = open_job(path), [] if path.stem == "tiny" else ["data", "teacher", "tokenizer"]
        assert job.params.name == path.stem and sorted(stage.name for stage in job.given) == given
    science = open_job("params/jobs/h100.yaml")
    assert {stage.path for stage in science.given} == {stage.path for stage in open_job("params/jobs/h100-rate.yaml").given}
    assert [task.title.partition(":")[0] for task in science.tasks if task.stage.name == "sft"] == ["h100", *["data"] * 9]
    carried = {stage.name for stage in science.given} | {task.stage.name for task in science.tasks}
    carried |= {name for step in science.params.steps for name in step.stages}  # a variant bears its stage's name in the tasks
    assert set(GRAPH) - carried == {"peers", "mkqa", "efficiency"}, "all else needs weights that do not come home"
    home, there = (load_params(ROOT / name) for name in ("params/ablations/h100_home.yaml", "params/h100.yaml"))
    assert [open_stage(name, home).key for name in GRAPH] == [open_stage(name, there).key for name in GRAPH] and home.tier == there.tier


def test_few_pools_are_a_seeded_choice(tmp_path):
    """`supervised.pools` limits passages of CLR and queries of retrieval, each with all of its rows; None changes nothing, nor the key."""
    params = {name: pair_params(tmp_path / "artefacts", supervised=over) for name, over in
              {"all": {}, "few": {"pools": 6}, "again": {"pools": 6}, "other": {"pools": 6, "seed": 1}}.items()}  # fmt: skip
    finish_inputs(params["all"])
    found = {name: {task.name: task.rows for task in supervised_tasks(open_stage("supervised", one), {})} for name, one in params.items()}
    groups = {
        name: {task: {row["group"] for row in rows} for task, rows in tasks.items() if task in PAIR_TASKS} for name, tasks in found.items()
    }
    assert {task: len(few) for task, few in groups["few"].items()} == {"retrieval": 6, "clr": 6}
    assert groups["few"] == groups["again"] != groups["other"]
    assert found["few"]["clr"] == [row for row in found["all"]["clr"] if row["group"] in groups["few"]["clr"]]
    assert found["few"]["sts"] == found["all"]["sts"]
    assert "pools" not in open_stage("supervised", params["all"]).artefact.parameters["supervised"]
