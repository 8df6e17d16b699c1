"""A job computes each stage once, the most wanted first and after its inputs, as many at once as it may; what is given is never computed.
When the minutes are up nothing new begins, training saves and stops, what still works after `grace` is killed, and the next call ends with
the weights of a run that never stopped. A failed stage costs only what is made from it, and a dead worker is a failure at any time. A stage
gets a worker with its own environment.
"""

import io
import multiprocessing
import re
import shutil
import time
from multiprocessing.connection import wait
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from rich.console import Console
from safetensors.torch import load_file

from conan_lib.data import records
from conan_lib.errors import RunError, Stopped, UserError
from conan_lib.params import load_params
from conan_lib.run import job, runner
from conan_lib.run.job import open_job, run_job
from conan_lib.run.worker import Told
from conan_lib.stages import compute, open_stage
from conan_lib.table import RUN
from tests.conftest import SCRATCH
from tests.small_corpus import sft_records
from tests.small_grid import GRID, commit, write_grid
from tests.small_pairs import finish_inputs, pair_params

pytestmark = pytest.mark.usefixtures("one_environment")
ROOT = Path(__file__).parents[2]
FILE = "params/jobs/small.yaml"
GIVEN = ("corpus", "sets", "heldout", "tokenizer", "teacher")
JOB = """
name: small
workers: 2
grace: 0
steps:
  - {run: ../small.yaml, stages: [supervised, supervised_no_clr]}
  - {grid: ../grids/small.yaml, seeds: [0]}
"""


class ByHand:
    """A worker that commits a stage instead of computing it, at once or, with `by_the_clock`, after so many seconds; stages in `failing` go
    wrong for a reason, those in `deadly` take the worker along, and those in `telling` say something first. What it was started for is its
    `threads`."""

    made: list = []
    sent: list = []
    slow: dict = {}
    failing: dict = {}
    telling: dict = {}
    deadly: set = set()

    def __init__(self, params):
        self.answers, self._there = multiprocessing.Pipe()
        self.threads, self.alive, self.stopped, self.stages = params.runtime.threads, True, False, []
        ByHand.made.append(self)

    def fits(self, params):
        return self.alive and self.threads == params.runtime.threads

    def send(self, stage, log):
        self.stages.append(stage)
        ByHand.sent.append(stage)
        log.write_text("so far\n")
        self.seconds = ByHand.slow.get(stage.name, 0)
        if not self.seconds:
            self._there.send(None)

    def answer(self):
        stage = self.stages[-1]
        if not self.seconds:
            self.answers.recv()
        if stage.name in ByHand.telling:
            self._there.send(None)
            return Told(ByHand.telling.pop(stage.name))
        self.alive = stage.name not in ByHand.deadly
        return ByHand.failing.get(stage.name) or commit(stage)

    def stop(self):
        self.stopped = True


@pytest.fixture
def small(project, monkeypatch):
    """A job over a run and a grid of two cells; text, tokenizer and teacher are here."""
    write_grid(project, GRID.replace("name: small", "name: cells"))
    (project / "params/jobs").mkdir()
    (project / FILE).write_text(JOB)
    for name in GIVEN:
        commit(open_stage(name, "params/small.yaml"))
    monkeypatch.setattr(runner, "Worker", ByHand)
    for name in ("sent", "made"):
        monkeypatch.setattr(ByHand, name, [])
    return project


@pytest.fixture
def by_the_clock(monkeypatch):
    """A clock that moves only where a job waits: to the end of the stage that ends next, or by all that it waits."""
    clock = SimpleNamespace(now=1000.0, time=lambda: clock.now, strftime=time.strftime)

    def waits(answers, seconds):
        if ready := wait(answers, 0):
            return ready
        ends, first = min((worker.seconds, number) for number, worker in enumerate(ByHand.made) if worker.answers in answers)
        clock.now += min(ends, seconds)
        return [ByHand.made[first].answers] if ends <= seconds else []

    for module in (job, runner):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(runner, "wait", waits)
    return clock


def said(*arguments, **options) -> str:
    """What a call of run_job prints."""
    console = Console(width=200, record=True, quiet=False, file=io.StringIO())
    try:
        run_job(FILE, *arguments, console=console, **options)
    finally:
        text = console.export_text()
    return text


def test_each_stage_once_in_the_order_of_worth_and_after_its_inputs(small):
    before = [task.stages[0].name for task in open_job(FILE).tasks]
    assert before[:6] == ["pretrain", "sft", "weak", "mine", "supervised", "supervised_no_clr"] and "corpus" not in before
    text = said()
    keys = [stage.path for stage in ByHand.sent]
    assert len(keys) == len(set(keys)) == len(before) == 6 + 1 + 4  # the grid's first cell is the run itself, scored
    for number, stage in enumerate(ByHand.sent):
        assert all(other.path in keys[:number] or other.name in GIVEN for other in stage.inputs.values())
    assert [stage.name for stage in ByHand.sent][:4] == ["pretrain", "sft", "weak", "weak"]  # the second worker took the grid's
    assert "11 of 11" not in text and "6 of 6" in text and "5 of 5" in text
    assert not open_job(FILE).todo
    ByHand.sent.clear()
    run_job(FILE, console=Console(quiet=True))
    assert ByHand.sent == []


def test_what_a_finished_stage_was_made_from_is_not_needed(small):
    """A parcel of scores brings the ends of a grid's cells alone."""
    said()
    (small / FILE).write_text("name: small\nsteps: [{grid: ../grids/small.yaml, seeds: [0]}]")
    for task in open_job(FILE).tasks:
        if task.stages[0].name in ("pretrain", "sft", "weak", "mine", "supervised"):
            shutil.rmtree(task.stages[0].path)
    ByHand.sent.clear()
    assert re.search(r"cells +\d+ of \d+ *$", said(), re.MULTILINE) and not ByHand.sent, "nothing is left"


def test_what_a_stage_tells_is_said_while_it_is_at_work(small, monkeypatch):
    monkeypatch.setattr(ByHand, "telling", {"weak": "conan-lib: stage weak: another process is making it"})
    text = said()
    assert re.search(r"^\d\d:\d\d:\d\d stage weak: another process is making it$", text, re.MULTILINE)
    assert not open_job(FILE).todo and [stage.name for stage in ByHand.sent].count("weak") == 2


def test_a_run_with_seeds_is_run_with_each_and_threads_are_the_workers(small):
    """Seeds go to what trains; what a run of the file itself has made is used; threads change no key."""
    (small / FILE).write_text("name: small\nthreads: 1\nsteps: [{run: ../small.yaml, stages: [weak, mine], seeds: [0, 4]}]")
    tasks = open_job(FILE).tasks
    assert [(task.title, task.stages[0].name) for task in tasks] == [
        (f"small: seed {seed}", name) for seed in (0, 4) for name in ("pretrain", "sft", "weak", "mine")
    ]
    assert [task.stages[0].key for task in tasks[:4]] == [open_stage(t.stages[0].name, "params/small.yaml").key for t in tasks[:4]]
    assert {getattr(task.stages[0], task.stages[0].name).seed for task in tasks[4:7]} == {4}
    assert tasks[-1].stages[0].mine == tasks[3].stages[0].mine and tasks[-1].stages[0].key != tasks[3].stages[0].key
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
    monkeypatch.setattr(ByHand, "failing", {"mine": "ValueError: no"})
    with pytest.raises(RunError, match=r"^2 stages failed: stage mine [0-9a-f]{16}: ValueError: no \(see .*log\); stage mine"):
        run_job(FILE, console=Console(quiet=True))
    assert [stage.name for stage in ByHand.sent] == ["pretrain", "sft", "weak", "weak", "mine", "mine"]
    monkeypatch.setattr(ByHand, "failing", {})
    run_job(FILE, console=Console(quiet=True))
    assert not open_job(FILE).todo


def test_at_the_deadline_nothing_begins_and_what_hangs_is_left(small, monkeypatch, by_the_clock):
    with pytest.raises(Stopped, match="the time is up with 11 of 11 stages left"):
        run_job(FILE, 0, console=Console(quiet=True))
    assert ByHand.sent == [] and by_the_clock.now == 1000
    monkeypatch.setattr(ByHand, "slow", {"sft": 1e9})
    with pytest.raises(Stopped, match="10 of 11"):
        run_job(FILE, 1, console=Console(quiet=True))
    assert by_the_clock.now == 1060 and [stage.name for stage in ByHand.sent] == ["pretrain", "sft"]
    assert ByHand.sent[-1].runtime.deadline == 1060
    assert all(worker.stopped for worker in ByHand.made), "no worker outlives the call, idle or at work"


@pytest.mark.parametrize(("seconds", "left"), [(60 + 20, 9), (60 + 21, 10)])
def test_what_works_at_the_deadline_has_its_grace(small, monkeypatch, by_the_clock, seconds, left):
    """Done within it, it is done; nothing begins in it."""
    (small / FILE).write_text(JOB.replace("grace: 0", "grace: 20"))
    monkeypatch.setattr(ByHand, "slow", {"sft": seconds})
    with pytest.raises(Stopped, match=f"with {left} of 11"):
        run_job(FILE, 1, console=Console(quiet=True))
    assert by_the_clock.now == 1080 and "weak" not in [stage.name for stage in ByHand.sent]
    assert all(worker.stopped for worker in ByHand.made)


def test_stopped_at_the_deadline_is_no_failure_but_a_dead_worker_is_one(small, monkeypatch, by_the_clock):
    (small / FILE).write_text(JOB.replace("grace: 0", "grace: 20"))
    monkeypatch.setattr(ByHand, "slow", {"sft": 70})
    monkeypatch.setattr(ByHand, "failing", {"sft": "stopped at step 3 of 9"})
    with pytest.raises(Stopped, match="10 of 11"):
        run_job(FILE, 1, console=Console(quiet=True))
    monkeypatch.setattr(ByHand, "failing", {"sft": "the worker died (exit code -9)"})
    monkeypatch.setattr(ByHand, "deadly", {"sft"})
    with pytest.raises(RunError, match=r"^1 stages failed: stage sft [0-9a-f]{16}: the worker died \(exit code -9\) \(see .*log\)$"):
        run_job(FILE, 1, console=Console(quiet=True))
    assert by_the_clock.now == 1140


def test_a_stage_gets_a_worker_with_its_own_environment(small):
    """No more processes than workers: an idle one that does not fit ends before another begins."""
    (small / "params/wide.yaml").write_text("tier: wide\nruntime: {threads: 7}\nweak: {max_steps: 5}\n")
    steps = "[{run: ../small.yaml, stages: [sft]}, {run: ../wide.yaml, stages: [mine]}, {run: ../small.yaml, stages: [mine]}]"
    (small / FILE).write_text(f"name: small\nsteps: {steps}\n")
    run_job(FILE, console=Console(quiet=True))
    assert [(worker.threads, [stage.name for stage in worker.stages]) for worker in ByHand.made] == [
        (2, ["pretrain", "sft"]),
        (7, ["weak", "mine"]),
        (2, ["weak", "mine"]),
    ]
    assert all(worker.stopped for worker in ByHand.made) and not open_job(FILE).todo


def test_what_a_run_checks_is_checked_before_anything_runs(small):
    """Of every run and cell that has something to do."""
    lora = "{rank: 2, targets: [q_proj, v_porj]}"
    (small / "params/typo.yaml").write_text(f"tier: typo\nweak: {{lora: {lora}}}\n")
    step = "  - {run: ../typo.yaml, stages: [weak]}\n"
    (small / FILE).write_text(JOB + step)
    with pytest.raises(UserError, match=r"^weak.lora.targets: v_porj: no layer of the backbone is called so: choose from q_proj"):
        run_job(FILE, console=Console(quiet=True))
    (small / FILE).write_text("given: []\n" + JOB)
    (small / "requirements-data.txt").write_text("sonofman-not-there==1.0\n")
    (open_stage("corpus", "params/small.yaml").path / "manifest.json").unlink()
    with pytest.raises(UserError, match="missing sonofman-not-there"):
        run_job(FILE, console=Console(quiet=True))
    assert ByHand.made == []


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
            **{stage: {"max_steps": 3, "batch_size": 4, "max_length": 32} for stage in ("pretrain", "sft")},
            **{stage: {"max_steps": 3} for stage in ("weak", "supervised")},
        )

    for name in ("whole", "stopped"):
        finish_inputs(params(name))
        records.write_table(open_stage("sets", params(name)).path / "sft.parquet", pa.Table.from_pylist(sft_records()))
        for stage in ("pretrain", "sft"):
            shutil.rmtree(tmp_path / name / stage)
    for stage in ("pretrain", "sft", "weak", "mine", "supervised"):
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
        job, given = open_job(path), sorted(GIVEN) if path.stem.startswith(("h100", "smollm2-gpu")) else []
        assert job.params.name == path.stem and sorted(stage.name for stage in job.given) == given
    science = open_job("params/jobs/h100.yaml")
    assert {stage.path for stage in science.given} == {stage.path for stage in open_job("params/jobs/h100-rate.yaml").given}
    assert [task.title.partition(":")[0] for task in science.tasks if task.stages[0].name == "sft"] == ["h100", *["data"] * 9]
    carried = {stage.name for stage in science.given} | {task.stages[0].name for task in science.tasks}
    carried |= {name for step in science.params.steps for name in step.stages}  # a variant bears its stage's name in the tasks
    assert set(SCRATCH) - carried == {"peers", "mkqa", "efficiency"}, "all else needs weights that do not come home"
    home, there = (load_params(ROOT / name) for name in ("params/h100-home.yaml", "params/h100.yaml"))
    assert [open_stage(name, home).key for name in RUN] == [open_stage(name, there).key for name in RUN] and home.tier == there.tier


def test_the_masks_on_a_gpu_are_seven_arms_and_eight_seeds_of_all_layers(monkeypatch):
    """Their text is that of the confirming study on a CPU; what is rehearsed are the same arms."""
    monkeypatch.chdir(ROOT)
    cells = {name: [task.stages[0] for task in open_job(f"params/jobs/{name}.yaml").tasks] for name in
             ("smollm2", "smollm2-gpu", "smollm2-gpu-rehearsal")}  # fmt: skip
    weak = {name: [stage for stage in own if stage.name == "weak"] for name, own in cells.items()}
    masks = {name: {stage.weak.soft_mask for stage in own} for name, own in weak.items()}
    assert len(masks["smollm2-gpu"]) == 7 and masks["smollm2-gpu"] == masks["smollm2-gpu-rehearsal"]
    assert {(stage.weak.seed, stage.weak.soft_mask) for stage in weak["smollm2-gpu"]} == {
        (seed, mask) for seed in range(8) for mask in masks["smollm2-gpu"]
    }
    assert {(stage.params.model.layers, stage.weak.precision, stage.weak.snapshots) for stage in weak["smollm2-gpu"]} == {
        (None, "bf16", None)
    }
    assert {stage.name for stage in cells["smollm2-gpu"]} == {"start", "pretrain", "sft", "weak", "score_weak"}
    text = {name: {open_stage("sets", stage.params).key for stage in own} for name, own in weak.items()}
    confirming = {open_stage("sets", ROOT / "params/bases/smollm2-confirm.yaml").key}
    assert text["smollm2-gpu"] == confirming < text["smollm2"] and not confirming & text["smollm2-gpu-rehearsal"]
