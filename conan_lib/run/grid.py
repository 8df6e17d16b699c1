"""Run a grid: every cell with every seed through the same stages as `conan-lib train`, each shared stage once, then its table."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from conan_lib.errors import RunError
from conan_lib.grids import Cell, Grid, open_grid
from conan_lib.run.checks import check_stages
from conan_lib.run.clock import Clock
from conan_lib.run.runner import Runner, Task, tasks_for
from conan_lib.run.worker import Here
from conan_lib.stages import Stage


def run_grid(
    path: str | Path,
    seeds: tuple[int, ...] | None = None,
    dry_run: bool = False,
    console: Console | None = None,
    execute: Callable[[Stage, Path], str | None] | None = None,
) -> Grid:
    """Run what is not finished of a grid, then write its table and figure to runs/<tier>/ablations/.

    Killed at any moment and run again, it goes on where it stopped: finished stages are skipped, a partial one is resumed.

    Args:
        path: grid file.
        seeds: instead of the file's.
        dry_run: only show cells, stages and an estimate of the time.
        execute: computes a stage here instead of in a worker process; see `Here`.

    Raises:
        UserError: a mistake in the file or any cell, or missing data: found before anything runs.
        RunError: some cells failed; the others have finished.
    """
    console = console or Console(highlight=False, soft_wrap=True, file=sys.stdout)
    grid = open_grid(path, seeds)
    tasks, clock = lacking(grid.cells), Clock(stage for cell in grid.cells for stage in cell.stages.values())
    if dry_run:
        show(grid, tasks, clock, console)
        return grid
    check_stages(stage for task in tasks for stage in task.stages)
    make = None if execute is None else lambda params: Here(execute)
    failures = Runner(tasks, console, clock, f"grids/{grid.params.name}", make_worker=make).run()
    from conan_lib.findings.grids import write_ablation

    if any(cell.score.finished for cell in grid.cells):
        console.print(f"table: {os.path.relpath(write_ablation(grid))}")
    if failures:
        reasons = {task.stages[0].path: reason for task, reason in failures.items()}
        lost = [
            f"{cell}: {next(reasons[stage.path] for stage in cell.stages.values() if stage.path in reasons)}"
            for cell in grid.cells
            if not cell.finished
        ]
        raise RunError(f"{len(lost)} of {len(grid.cells)} cells failed: {'; '.join(lost)}")
    return grid


def lacking(cells: list[Cell] | tuple[Cell, ...]) -> list[Task]:
    """The stages that the unfinished cells lack, each once, in an order that can run: seed after seed, cell after cell."""
    return tasks_for((str(cell), stage) for cell in cells for stage in cell.ends)


def show(grid: Grid, tasks: list[Task], clock: Clock, console: Console) -> None:
    """What a run would do: cells, stages shared and needed, and about how long it takes; writes nothing."""
    own, todo = {*grid.params.stages, *grid.params.targets}, [task.stages[0] for task in tasks]
    console.print(f"{grid.params.name}: {grid.params.title}")
    console.print(f"{len(grid.names)} cells x {len(grid.params.seeds)} seeds = {len(grid.cells)} runs; baseline: {grid.params.baseline}")
    table = Table("cell", *(f"seed {seed}: to do" for seed in grid.params.seeds), box=None)
    for name in grid.names:
        missing = [[task.stages[0].name for task in lacking([cell])] for cell in grid.of(name)]
        table.add_row(name, *(" ".join(stage for stage in one if stage in own) or "nothing" for one in missing))
    console.print(table)
    table = Table("stage", "different", "finished", "to do", "time", box=None)
    for name in grid.cells[0].stages:
        different = {cell.stages[name].key: cell.stages[name] for cell in grid.cells}
        stages = [stage for stage in todo if stage.name == name]
        finished = sum(stage.finished for stage in different.values())
        table.add_row(name, str(len(different)), str(finished), str(len(stages)), clock.left(stages) if stages else "")
    console.print(table)
    console.print(f"{len(todo)} stages to do; {clock.left(todo) or 'time unknown'}, by the manifests of finished like stages")
