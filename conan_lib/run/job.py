"""Run a job: stages in the order of their worth, several at once, until they are done or the minutes are used up.

For a machine that is reached in short calls. At the deadline training saves a checkpoint and stops; called again it goes on, and ends with
the weights of a run that was never stopped. Nothing here computes: stages run in the workers of a grid (see grid.py).
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from rich.console import Console
from rich.table import Table

from conan_lib.errors import Stopped, UserError
from conan_lib.grids import open_grid
from conan_lib.params import Params, load_params, with_seed
from conan_lib.params.job import JobParams, StepParams, load_job
from conan_lib.run.checks import check_stages
from conan_lib.run.grid import Clock, Worker
from conan_lib.run.notebooks import RunError
from conan_lib.stages import Stage, open_stage, project_root

LOG_LINES = 12
"""Lines of a failed stage's log that are shown."""


@dataclass(frozen=True)
class Task:
    """A stage of a job, and the title of the step that first needs it."""

    stage: Stage
    title: str


@dataclass(frozen=True)
class Job:
    """A job file with every stage opened; nothing is computed or written."""

    params: JobParams
    tasks: tuple[Task, ...]
    """Each stage once, in the order of worth, after what it is made from; `given` ones are not among them."""
    given: tuple[Stage, ...]

    @property
    def todo(self) -> list[Task]:
        return [task for task in self.tasks if not task.stage.finished]


def open_job(path: str | Path) -> Job:
    """Read and validate a job with all its runs and grids.

    Raises:
        UserError: a mistake in the job file, a parameter file or a grid.
    """
    path = Path(path)
    path = path if path.is_file() or path.is_absolute() else project_root() / path
    params = load_job(path)
    tasks: dict[Path, Task] = {}
    given: dict[Path, Stage] = {}

    def need(stage: Stage, title: str) -> None:
        if stage.name in params.given:
            given.setdefault(stage.path, stage)
        elif stage.path not in tasks:
            for other in stage.inputs.values():
                need(other, title)
            tasks[stage.path] = Task(stage, title)

    for step in params.steps:
        if step.run:
            for title, run in _runs(path, step):
                for name in step.stages:
                    need(open_stage(name, run), title)
        else:
            grid = open_grid((path.parent / step.grid).resolve(), step.seeds)
            for cell in grid.cells:
                need(cell.score, f"{grid.params.name}: {cell}")
    return Job(params, tuple(tasks.values()), tuple(given.values()))


def _runs(path: Path, step: StepParams) -> Iterator[tuple[str, Params]]:
    """Title and tree of each run of a step: one, or one for each of its seeds."""
    params, title = load_params((path.parent / step.run).resolve()), Path(step.run).stem
    if step.seeds is None:
        yield title, params
    for seed in step.seeds or ():
        yield f"{title}: seed {seed}", with_seed(params, seed, step.seeded)


def run_job(path: str | Path, minutes: float | None = None, dry_run: bool = False, console: Console | None = None) -> Job:
    """Run what is not finished, for at most `minutes`.

    Args:
        path: job file.
        minutes: wall-clock time of this call, the start of the workers included, `grace` not included; None: no limit.
        dry_run: only show what is done, what is left, and about how long it takes.

    Raises:
        UserError: a mistake in a file, missing data, or a given stage that is not here: found before anything runs.
        RunError: stages failed; the others went on.
        Stopped: the minutes are used up and stages are left.
    """
    deadline = None if minutes is None else time.time() + 60 * minutes
    console = console or Console(highlight=False, soft_wrap=True, file=sys.stdout)
    job = open_job(path)
    if missing := [f"{stage.artefact.stage}/{stage.key}" for stage in job.given if not stage.finished]:
        raise UserError(f"{path}: {', '.join(missing)} not here: carry it with conan-lib pack and unpack, or run it where its data is")
    clock = Clock(task.stage for task in job.tasks)
    failures: dict[Path, str] = {}
    if not dry_run and job.todo:
        check_stages(task.stage for task in job.todo)
        pool = _Pool(job, deadline, clock, console)
        try:
            failures = pool.run()
        finally:
            pool.close()
    show(job, clock, console)
    if failures:
        raise RunError(f"{len(failures)} stages failed: {'; '.join(failures.values())}")
    if job.todo and not dry_run:
        raise Stopped(f"the time is up with {len(job.todo)} of {len(job.tasks)} stages left")
    return job


def show(job: Job, clock: Clock, console: Console) -> None:
    """What is done and what is left, step by step, with an estimate from the stages that have finished."""
    table = Table("step", "finished", "left", "time left, one at a time", box=None)
    steps: dict[str, list[Stage]] = {}
    for task in job.tasks:
        steps.setdefault(task.title.partition(":")[0], []).append(task.stage)
    for title, stages in steps.items():
        left = [stage for stage in stages if not stage.finished]
        names = " ".join(dict.fromkeys(stage.name for stage in left))
        table.add_row(title, f"{len(stages) - len(left)} of {len(stages)}", names, clock.left(left) if left else "")
    console.print(table)


@dataclass
class _Pool:
    """The workers of one call."""

    job: Job
    deadline: float | None
    clock: Clock
    console: Console
    idle: list[Worker] = field(default_factory=list)
    busy: dict[Worker, Task] = field(default_factory=dict)
    failures: dict[Path, str] = field(default_factory=dict)

    def run(self) -> dict[Path, str]:
        """Failed stages with the reason."""
        while True:
            if not self._left() <= 0:
                self._start()
            if not self.busy:
                return self.failures
            ready = wait([worker.answers for worker in self.busy], max(0, self._left() + self.job.params.grace) if self.deadline else None)
            for worker in [worker for worker in self.busy if worker.answers in ready]:
                self._end(worker)
            if not ready:
                for task in self.busy.values():
                    self._say("killed", task, "at the deadline; the next call resumes it")
                return self.failures

    def close(self) -> None:
        """End idle workers, stop those at work."""
        for worker in (*self.idle, *self.busy):
            worker.stop()

    def _left(self) -> float:
        """Seconds to the deadline."""
        return float("inf") if self.deadline is None else self.deadline - time.time()

    def _start(self) -> None:
        """Give stages whose inputs are there to workers, the most wanted first."""
        running = {task.stage.path for task in self.busy.values()} | set(self.failures)
        for task in self.job.todo:
            if len(self.busy) == self.job.params.workers:
                return
            stage = task.stage
            if stage.path not in running and all(other.finished for other in stage.inputs.values()):
                threads = self.job.params.threads or stage.runtime.threads
                runtime = stage.runtime.model_copy(update={"deadline": self.deadline, "threads": threads})
                timed = open_stage(stage.name, stage.params.model_copy(update={"runtime": runtime}))
                worker = self._worker(timed.params)
                worker.send(timed, _log(self.job, stage))
                self.busy[worker] = task

    def _worker(self, params: Params) -> Worker:
        """An idle worker with the environment of these parameters, or a new one, for which an idle one gives way: they hold memory."""
        if fitting := [worker for worker in self.idle if worker.fits(params)]:
            self.idle.remove(fitting[-1])
            return fitting[-1]
        if self.idle:
            self.idle.pop().stop()
        return Worker(params)

    def _end(self, worker: Worker) -> None:
        task, reason = self.busy.pop(worker), worker.answer()
        if worker.alive:
            self.idle.append(worker)
        if task.stage.finished:
            self.clock.add(task.stage)
            self._say("done", task, f"{task.stage.artefact.manifest['seconds']:.1f} s")
        elif self._left() <= 0 and worker.alive:
            self._say("stopped", task, reason or "")
        else:
            self.failures[task.stage.path] = f"{task.stage.name} {task.stage.key}: {reason}"
            self._say("failed", task, reason or "")
            log = _log(self.job, task.stage)
            self.console.print(_tail(log), f"(all of it: {os.path.relpath(log)})", sep="\n", markup=False)

    def _say(self, what: str, task: Task, more: str) -> None:
        stage, now = task.stage, time.strftime("%H:%M:%S")
        self.console.print(f"{now} {what:8} {stage.name:18} {stage.key}  {task.title}  {more}", markup=False)
        self.console.file.flush()  # a call that is killed from outside has said what it did


def _log(job: Job, stage: Stage) -> Path:
    log = project_root() / stage.runtime.artefacts / "jobs" / job.params.name / f"{stage.name}-{stage.key}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return "\n".join(lines[-LOG_LINES:])


def results_of(job: Job) -> Iterable[Stage]:
    """The finished stages of a job: what there is to carry home."""
    return [task.stage for task in job.tasks if task.stage.finished]
