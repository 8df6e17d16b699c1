"""The one runner: tasks, each once, in an order that can run, given to workers until they are done or the time is up.

The notebooks, a grid and a job are each a list of tasks. A task that fails, or whose worker dies, costs only what is made from it.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from conan_lib.files import SAID
from conan_lib.params import Params
from conan_lib.run.clock import Clock
from conan_lib.run.worker import Here, Told, Worker
from conan_lib.stages import Stage, open_stage, project_root

LOG_LINES = 12
"""Lines of a failed stage's log that are shown."""


@dataclass(frozen=True, eq=False)
class Task:
    """What one worker does at a time: a stage, and the title of what first needs it."""

    title: str
    stages: tuple[Stage, ...]

    @property
    def finished(self) -> bool:
        return all(stage.finished for stage in self.stages)

    @property
    def ready(self) -> bool:
        """Whether everything that it is made from is there."""
        return all(other.finished for stage in self.stages for other in stage.inputs.values())

    def order(self, **runtime) -> tuple[Params, Any]:
        """The parameters that ask for a worker's environment, and what the worker is sent."""
        (stage,) = self.stages
        params = stage.params.model_copy(update={"runtime": stage.runtime.model_copy(update=runtime)})
        return params, open_stage(stage.name, params)


def tasks_for(wanted: Iterable[tuple[str, Stage]], without: Iterable[str] = (), finished: bool = False) -> list[Task]:
    """The stages that are wanted, each after what it is made from, each once.

    Args:
        wanted: (title, stage), the most wanted first.
        without: names of stages that are not to be computed here.
        finished: with the finished stages, and what these were made from.
    """
    found: dict[Path, Task] = {}

    def need(title: str, stage: Stage) -> None:
        if stage.path not in found and stage.name not in without and (finished or not stage.finished):
            for other in stage.inputs.values():
                need(title, other)
            found[stage.path] = Task(title, (stage,))

    for title, stage in wanted:
        need(title, stage)
    return list(found.values())


@dataclass
class Runner:
    """One call's workers and what they do.

    Attributes:
        tasks: by priority; a worker takes the first one that is ready.
        console: gets a line for every task that ends, and shows progress in between.
        clock: estimates the time that is left.
        name: of the folder of logs, artefacts/<name>/.
        workers: tasks at once.
        make_worker: starts a worker for a stage with these parameters.
        deadline: nothing begins after this time (seconds since the epoch), and stages stop there; None: no limit.
        grace: seconds after the deadline until what still works is killed.
        threads: of each worker; None: as runtime.threads says.
    """

    tasks: list[Task]
    console: Console
    clock: Clock
    name: str
    workers: int = 1
    make_worker: Callable[[Params], Worker | Here] | None = None
    deadline: float | None = None
    grace: float = 0
    threads: int | None = None

    def run(self) -> dict[Task, str]:
        """Do what has not finished; returns the failed tasks with the reason."""
        self.idle: list[Worker | Here] = []
        self.busy: dict[Worker | Here, Task] = {}
        self.failures: dict[Task, str] = {}
        columns = (TextColumn("{task.description}"), TimeElapsedColumn(), TextColumn("[dim]{task.fields[line]}"))
        with Progress(*columns, console=self.console, transient=True, redirect_stdout=False, redirect_stderr=False) as self.progress:
            total = sum(not task.finished for task in self.tasks)
            self.bar = self.progress.add_task("", total=total, line="")
            try:
                self._work()
            finally:
                for worker in (*self.idle, *self.busy):
                    worker.stop()
        return self.failures

    def show(self, line: str) -> None:
        """Show a line of a task's output beside its stage and the clock."""
        self.progress.update(self.bar, description=self._description(), line=escape(line))

    def tell(self, line: str) -> None:
        """Print a line that a task at work has for the user."""
        self.console.print(f"{time.strftime('%H:%M:%S')} {line.removeprefix(SAID)}", markup=False)
        self.console.file.flush()

    def _work(self) -> None:
        while True:
            if self._seconds_left() > 0:
                self._start()
            if not self.busy:
                return
            limit = None if self.deadline is None else max(0, self._seconds_left() + self.grace)
            ready = wait([worker.answers for worker in self.busy], limit)
            for worker in [worker for worker in self.busy if worker.answers in ready]:
                self._end(worker)
            if not ready:
                for task in self.busy.values():
                    self._say("killed", task, "at the deadline; the next call resumes it")
                return

    def _seconds_left(self) -> float:
        return float("inf") if self.deadline is None else self.deadline - time.time()

    def _start(self) -> None:
        """Give tasks that are ready to workers, the most wanted first."""
        for task in self.tasks:
            if len(self.busy) == self.workers:
                return
            if task not in self.failures and task not in self.busy.values() and not task.finished and task.ready:
                threads = self.threads or task.stages[0].runtime.threads
                params, what = task.order(deadline=self.deadline, threads=threads)
                worker = self._worker(params)
                self.busy[worker] = task
                self.progress.update(self.bar, description=self._description(), line="")
                names = ", ".join(stage.name for stage in task.stages if not stage.finished) or "shown again"
                self.console.print(f"{time.strftime('%H:%M:%S')} start {self._place()}  {task.title}: {names}", markup=False)
                self.console.file.flush()
                worker.send(what, self._log(task))

    def _worker(self, params: Params) -> Worker | Here:
        """An idle worker with the environment of these parameters, or a new one, for which an idle one gives way: they hold memory."""
        if fitting := [worker for worker in self.idle if worker.fits(params)]:
            self.idle.remove(fitting[-1])
            return fitting[-1]
        if self.idle:
            self.idle.pop().stop()
        return (self.make_worker or Worker)(params)

    def _end(self, worker: Worker | Here) -> None:
        if isinstance(reason := worker.answer(), Told):
            return self.tell(reason)
        task = self.busy.pop(worker)
        if worker.alive:
            self.idle.append(worker)
        if task.finished:
            for stage in task.stages:
                self.clock.add(stage)
            self._say("done", task)
            self.progress.advance(self.bar)
        elif self._seconds_left() <= 0 and worker.alive:
            self._say("stopped", task, reason or "")
        else:
            log, stage = self._log(task), task.stages[0]
            self.failures[task] = f"stage {stage.name} {stage.key}: {reason} (see {os.path.relpath(log)})"
            self._say("failed", task, reason or "")
            if log.is_file():
                self.console.print(*log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:], sep="\n", markup=False)

    def _say(self, what: str, task: Task, more: str = "") -> None:
        say(self.console, what, task, more)
        self.console.file.flush()  # a call that is killed from outside has said what it did

    def _place(self) -> str:
        """How far the call is, as in "3/8, about 6 min left"."""
        task = self.progress.tasks[0]
        left = self.clock.left(stage for task in self.tasks if not task.finished for stage in task.stages if not stage.finished)
        number = int(task.completed) + len(self.busy) + len(self.failures)
        return ", ".join(filter(None, (f"{number}/{int(task.total)}", left)))

    def _description(self) -> str:
        """Where the call is, and for each task at work its title and the stage that it computes."""
        now = [(task, next((stage.name for stage in task.stages if not stage.finished), "pictures")) for task in self.busy.values()]
        return escape(f"{self._place()}  " + "  ".join(task.title if task.title == name else f"{task.title}: {name}" for task, name in now))

    def _log(self, task: Task) -> Path:
        stage = task.stages[0]
        log = project_root() / stage.runtime.artefacts / self.name / f"{stage.name}-{stage.key}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        return log


def say(console: Console, what: str, task: Task, more: str = "") -> None:
    """A line for each stage of a task: when, what became of it, the seconds of its computation."""
    for stage in task.stages:
        seconds = f"{stage.artefact.manifest['seconds']:7.1f} s" if stage.finished else ""
        line = f"{time.strftime('%H:%M:%S')} {what:12} {stage.name:18} {stage.key}  {seconds:9}  {task.title}  {more}"
        console.print(line.rstrip(), markup=False)
