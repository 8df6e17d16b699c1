"""Run a grid: every cell with every seed through the same stage functions as `conan-lib train`, each shared stage once.

Stages run one after the other in a worker process of their own, which gets a kernel's environment (see pipeline.kernel_environment); when
it dies, for want of memory say, only the cells that need its stage are lost.
"""

import gc
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from conan_lib.artefacts import read_json
from conan_lib.errors import Stopped
from conan_lib.grids import TARGET, Cell, Grid, open_grid
from conan_lib.params import Params
from conan_lib.run.checks import check_stages
from conan_lib.run.notebooks import RunError, compute, kernel_environment
from conan_lib.stages import Stage, open_stage, project_root

Execute = Callable[[Stage, Path], str | None]
"""(stage, log) -> None, or what went wrong in a few words; the log has the rest."""


@dataclass
class Needed:
    """One stage to compute, and the cells that need it."""

    stage: Stage
    cells: list[Cell] = field(default_factory=list)


def run_grid(
    path: str | Path,
    seeds: tuple[int, ...] | None = None,
    dry_run: bool = False,
    console: Console | None = None,
    execute: Execute | None = None,
) -> Grid:
    """Run what is not finished of a grid, then write its table and figure to reports/<tier>/ablations/.

    Killed at any moment and run again, it goes on where it stopped: finished stages are skipped, a partial one is resumed.

    Args:
        path: grid file.
        seeds: instead of the file's.
        dry_run: only show cells, stages and an estimate of the time.
        execute: computes a stage; by default a worker process does.

    Raises:
        UserError: a mistake in the file or any cell, or missing data: found before anything runs.
        RunError: some cells failed; the others have finished.
    """
    console = console or Console(highlight=False, soft_wrap=True, file=sys.stdout)
    grid = open_grid(path, seeds)
    todo, clock = needed_by(grid.cells), Clock(stage for cell in grid.cells for stage in cell.stages.values())
    if dry_run:
        show(grid, todo, clock, console)
        return grid
    check_stages(needed.stage for needed in todo)
    with _worker() if execute is None else _given(execute) as call:
        failures = _run(grid, todo, clock, call, console)
    from conan_lib.findings.grids import write_ablation

    if any(cell.finished for cell in grid.cells):
        console.print(f"table: {os.path.relpath(write_ablation(grid))}")
    if failures:
        lost = [f"{cell}: {reason}" for cell, reason in failures.items()]
        raise RunError(f"{len(lost)} of {len(grid.cells)} cells failed: {'; '.join(lost)}")
    return grid


def needed_by(cells: Iterable[Cell]) -> list[Needed]:
    """The stages that the unfinished cells lack, each once, in an order that can run: seed after seed, cell after cell."""
    found: dict[str, Needed] = {}

    def need(stage: Stage, cell: Cell) -> None:
        if not stage.finished:
            for other in stage.inputs.values():
                need(other, cell)
            wanted = found.setdefault(stage.key, Needed(stage)).cells
            if cell not in wanted:
                wanted.append(cell)

    for cell in cells:
        need(cell.score, cell)
    return list(found.values())


def _run(grid: Grid, todo: list[Needed], clock: "Clock", execute: Execute, console: Console) -> dict[Cell, str]:
    """Compute every stage whose inputs could be computed; returns the failed cells with the reason."""
    failures: dict[Cell, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("stages  {task.fields[cells]}"),
               TimeElapsedColumn(), TextColumn("{task.fields[left]}"))  # fmt: skip
    start = time.monotonic()
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as progress:
        bar = progress.add_task("", total=len(todo), cells="", left="")
        for number, needed in enumerate(todo):
            stage, waiting = needed.stage, [cell for cell in needed.cells if cell not in failures]
            if not waiting:  # an input of it failed
                progress.advance(bar)
                continue
            done = sum(cell.finished for cell in grid.cells)
            rate = f"{60 * number / (time.monotonic() - start):.1f} a minute" if number else ""
            left = clock.left(other.stage for other in todo[number:] if not set(other.cells) <= set(failures))
            progress.update(
                bar, description=f"{stage.name}: {waiting[0]}", cells=f"{done}/{len(grid.cells)} cells  {rate}", left=f"{left} left"
            )
            log = project_root() / stage.runtime.artefacts / "grids" / grid.params.name / f"{stage.name}-{stage.key}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            if reason := execute(stage, log):
                where = f"stage {stage.name} {stage.key}: {reason} (see {os.path.relpath(log)})"
                failures |= dict.fromkeys(waiting, where)
                console.print(f"failed: {where}")
            else:
                seconds = stage.artefact.manifest["seconds"]
                clock.add(stage)
                console.print(f"{number + 1:4}/{len(todo)}  {stage.name:10} {stage.key} {seconds:7.1f} s  {waiting[0]}")
            progress.advance(bar)
    return failures


def show(grid: Grid, todo: list[Needed], clock: "Clock", console: Console) -> None:
    """What a run would do: cells, stages shared and needed, and about how long it takes; writes nothing."""
    own = {*grid.params.stages, TARGET}
    console.print(f"{grid.params.name}: {grid.params.title}")
    console.print(f"{len(grid.names)} cells x {len(grid.params.seeds)} seeds = {len(grid.cells)} runs; baseline: {grid.params.baseline}")
    table = Table("cell", *(f"seed {seed}: to do" for seed in grid.params.seeds), box=None)
    for name in grid.names:
        missing = [[needed.stage.name for needed in needed_by([cell])] for cell in grid.of(name)]
        table.add_row(name, *(" ".join(stage for stage in one if stage in own) or "nothing" for one in missing))
    console.print(table)
    table = Table("stage", "different", "finished", "to do", "time", box=None)
    for name in grid.cells[0].stages:
        different = {cell.stages[name].key: cell.stages[name] for cell in grid.cells}
        stages = [needed.stage for needed in todo if needed.stage.name == name]
        finished = sum(stage.finished for stage in different.values())
        table.add_row(name, str(len(different)), str(finished), str(len(stages)), clock.left(stages) if stages else "")
    console.print(table)
    left = clock.left(needed.stage for needed in todo)
    console.print(f"{len(todo)} stages to do; time, from the manifests of finished like stages: {left}")


class Clock:
    """How long a stage takes, from the manifests of finished ones.

    The like stage is the one of the same name with the most equal parameters; its seconds are scaled by the ratio of the steps.
    """

    def __init__(self, stages: Iterable[Stage]):
        self._known: dict[str, list[tuple[dict, float]]] = {}
        for folder in {stage.path.parent for stage in stages}:
            for path in sorted(folder.glob("*/manifest.json")):
                self._remember(folder.name, read_json(path))

    def add(self, stage: Stage) -> None:
        """Take a stage into account that has finished since."""
        self._remember(stage.artefact.stage, stage.artefact.manifest)

    def seconds(self, stage: Stage) -> float | None:
        """Seconds that a stage may take; None where no like stage has finished."""
        own = _flat(stage.artefact.parameters)
        known = self._known.get(stage.artefact.stage)
        if not known:
            return None
        other, seconds = max(known, key=lambda one: sum(one[0].get(key) == value for key, value in own.items()))
        steps = next((key for key in own if key.endswith(".max_steps")), None)
        return seconds * own[steps] / other[steps] if steps and other.get(steps) else seconds

    def left(self, stages: Iterable[Stage]) -> str:
        """The time that stages may take together, in words."""
        times = [self.seconds(stage) for stage in stages]
        known = sum(time for time in times if time is not None)
        unknown = sum(time is None for time in times)
        minutes, seconds = divmod(round(known), 60)
        words = f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {seconds:02} s"
        if unknown and unknown == len(times):
            return "unknown"
        return f"{words}, and {unknown} stages of unknown time" if unknown else words

    def _remember(self, name: str, manifest: dict) -> None:
        self._known.setdefault(name, []).append((_flat(manifest["parameters"]), manifest["seconds"]))


def _flat(tree: dict, prefix: str = "") -> dict:
    """Dotted key -> value."""
    found = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def in_this_process(stage: Stage, log: Path) -> str | None:
    """Compute a stage here; what it prints goes to the log."""
    with open(log, "a", encoding="utf-8", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        try:
            compute(stage)
        except Stopped as stopped:
            return str(stopped)
        except Exception as error:  # whatever it is, the other cells go on
            traceback.print_exc()
            return " ".join(f"{type(error).__name__}: {error}".split())
        finally:
            gc.collect()  # a trainer and its model refer to each other
            if "torch" in sys.modules:
                sys.modules["torch"].cuda.empty_cache()  # others may share the GPU
    return None


@contextmanager
def _given(execute: Execute | None):
    yield execute


@contextmanager
def _worker():
    """An Execute that computes in a process of its own; another is started where it has died or the stage asks for another environment."""
    worker = None

    def call(stage: Stage, log: Path) -> str | None:
        nonlocal worker
        if worker is not None and not worker.fits(stage.params):
            worker.stop()
            worker = None
        worker = worker or Worker(stage.params)
        return worker.call(stage, log)

    try:
        yield call
    finally:
        if worker is not None:
            worker.stop()


class Worker:
    """A process that computes stages, one after the other."""

    def __init__(self, params: Params):
        context = multiprocessing.get_context("spawn")
        self.answers, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there,))
        before = dict(os.environ)
        self._environment = kernel_environment(params)
        os.environ.update(self._environment)
        try:
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        there.close()
        self._busy = False

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def fits(self, params: Params) -> bool:
        """Whether it is there, with the environment that these parameters ask for: threads, and whether the hub may be reached."""
        return self.alive and self._environment == kernel_environment(params)

    def call(self, stage: Stage, log: Path) -> str | None:
        """Compute a stage and wait for it."""
        self.send(stage, log)
        return self.answer()

    def send(self, stage: Stage, log: Path) -> None:
        """Begin a stage; `answers` becomes readable when it ends."""
        self._busy = True
        with suppress(OSError):  # a dead worker says so in `answer`
            self.answers.send((stage.name, stage.params, log))

    def answer(self) -> str | None:
        """What an Execute returns, once the stage ends or the worker dies."""
        try:
            answer = self.answers.recv()
            self._busy = False
            return answer
        except (EOFError, OSError):
            self._process.join()
            return f"the worker died (exit code {self._process.exitcode}), perhaps out of memory"

    def stop(self) -> None:
        """Let an idle worker end by itself, so that it cleans up; stop one at work."""
        self.answers.close()
        if not self._busy:
            self._process.join(30)
        self._process.terminate()
        self._process.join()


def _serve(calls: Connection) -> None:
    """The worker's loop; ends with the process that started it."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
    while True:
        try:
            name, params, log = calls.recv()
        except (EOFError, KeyboardInterrupt):
            return
        calls.send(in_this_process(open_stage(name, params), log))
