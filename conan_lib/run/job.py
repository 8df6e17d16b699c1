"""Run a job: stages by priority, several at once, until they are done or the minutes are used up.

For a machine that is reached in short calls. At the deadline training saves a checkpoint and stops; called again it goes on, and ends with
the weights of a run that was never stopped.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from conan_lib.errors import RunError, Stopped, UserError
from conan_lib.grids import Grid, open_grid
from conan_lib.params import load_params, with_seed
from conan_lib.params.job import JobParams, StepParams, load_job
from conan_lib.params.load import named_in
from conan_lib.run.checks import check_stages
from conan_lib.run.clock import Clock
from conan_lib.run.runner import Runner, Task, tasks_for
from conan_lib.stages import Stage, open_stage, resolve


@dataclass(frozen=True)
class Job:
    """A job file with every stage opened; nothing is computed or written."""

    params: JobParams
    tasks: tuple[Task, ...]
    """Each stage once, by priority, after what it is made from; `given` ones are not among them."""
    given: tuple[Stage, ...]
    wanted: tuple[tuple[str, Stage], ...]
    """(title, stage) of what the steps are to reach."""
    grids: tuple[Grid, ...]

    @property
    def todo(self) -> list[Task]:
        """What is not finished and is needed: not what a finished stage was made from, where a parcel brought that stage alone."""
        return tasks_for(self.wanted, self.params.given)

    @property
    def results(self) -> list[Stage]:
        """The finished stages: what there is to carry home."""
        return [stage for task in self.tasks if task.finished for stage in task.stages]

    @property
    def evidence(self) -> list[Stage]:
        """The finished stages that a report reads of its grids."""
        return [stage for grid in self.grids for cell in grid.cells for stage in cell.evidence]


def open_job(path: str | Path) -> Job:
    """Read and validate a job with all its runs and grids.

    Raises:
        UserError: a mistake in the job file, a parameter file or a grid.
    """
    path = resolve(path)
    params = load_job(path)
    grids = [_grid(path, step) if step.grid else None for step in params.steps]
    wanted = tuple(one for step, grid in zip(params.steps, grids, strict=True) for one in (_cells(grid) if grid else _runs(path, step)))
    tasks = tasks_for(wanted, params.given, finished=True)
    inputs = {other.path: other for task in tasks for stage in task.stages for other in stage.inputs.values()}
    return Job(
        params, tuple(tasks), tuple(stage for stage in inputs.values() if stage.name in params.given), wanted, tuple(filter(None, grids))
    )


def _runs(path: Path, step: StepParams) -> Iterator[tuple[str, Stage]]:
    """(title, stage) of what a run is to reach, once or with each of its seeds."""
    with named_in(path, "run"):
        title, params = Path(step.run).stem, load_params((path.parent / step.run).resolve())
    runs = [(title, params)] if step.seeds is None else [
        (f"{title}: seed {seed}", with_seed(params, seed, step.seeded)) for seed in step.seeds
    ]  # fmt: skip
    return ((title, open_stage(name, run)) for title, run in runs for name in step.stages)


def _grid(path: Path, step: StepParams) -> Grid:
    with named_in(path, "grid"):
        return open_grid((path.parent / step.grid).resolve(), step.seeds)


def _cells(grid: Grid) -> Iterator[tuple[str, Stage]]:
    """(title, stage) of what ends a grid's cells."""
    return ((f"{grid.params.name}: {cell}", stage) for cell in grid.cells for stage in cell.ends)


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
    clock, failures = Clock(stage for task in job.tasks for stage in task.stages), {}
    if not dry_run and job.todo:
        check_stages(stage for task in job.todo for stage in task.stages)
        options = {name: getattr(job.params, name) for name in ("workers", "grace", "threads")}
        failures = Runner(job.todo, console, clock, f"jobs/{job.params.name}", deadline=deadline, **options).run()
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
    needed = {stage.path for task in job.todo for stage in task.stages}
    for task in job.tasks:
        steps.setdefault(task.title.partition(":")[0], []).extend(task.stages)
    for title, stages in steps.items():
        left = [stage for stage in stages if stage.path in needed]
        names = " ".join(dict.fromkeys(stage.name for stage in left))
        table.add_row(title, f"{sum(stage.finished for stage in stages)} of {len(stages)}", names, clock.left(left) if left else "")
    console.print(table)
