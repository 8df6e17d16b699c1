"""The run: eight notebooks in order, each executed through papermill, and the report at the end."""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from rich.console import Console

from conan_lib.errors import RunError, UserError
from conan_lib.files import SAID, replacing, write_json
from conan_lib.findings.files import committed
from conan_lib.params import Params, load_params
from conan_lib.run.checks import check_stages
from conan_lib.run.clock import Clock
from conan_lib.run.closing import closing_table
from conan_lib.run.kernels import WarmStart, kernel_manager
from conan_lib.run.runner import Runner, Task, say
from conan_lib.run.worker import Here, environment_of
from conan_lib.stages import Stage, below_root, compute, left_out, open_stage, project_root, resolve, takes_part
from conan_lib.table import RUN, notebooks

NOTEBOOKS = notebooks()
QUICKLY_HASHED = 64 * 2**20
"""Bytes of a file that a run hashes before it begins, though no stage needs it."""


@dataclass(frozen=True, eq=False)
class Step(Task):
    """One notebook of one run; its title is the notebook."""

    @property
    def source(self) -> Path:
        return project_root() / "notebooks" / f"{self.title}.ipynb"

    @property
    def copy(self) -> Path:
        """The executed notebook: artefacts/notebooks/<tier>/<notebook>.ipynb."""
        params = self.stages[0].params
        return project_root() / params.runtime.artefacts / "notebooks" / params.tier / self.source.name

    @cached_property
    def record(self) -> dict:
        """What the executed copy shows: which notebook, over which artefacts."""
        return {
            "notebook": hashlib.sha256(self.source.read_bytes()).hexdigest()[:16],
            "keys": {stage.name: stage.key for stage in self.stages},
        }

    @property
    def finished(self) -> bool:
        """All stages finished, and an executed copy of this very notebook over them exists."""
        return all(stage.finished for stage in self.stages) and self.copy.is_file() and _read(self.copy.with_suffix(".json")) == self.record

    @property
    def ready(self) -> bool:
        return True  # a notebook makes its stages' inputs itself, in order, or the notebooks before it do

    def order(self, **runtime) -> tuple[Params, Any]:
        return self.stages[0].params, self


def steps_of(params: Params) -> list[Step]:
    """The steps of a run, without notebooks of which no stage is part of it; nothing is computed or checked."""
    found = {notebook: [name for name in stages if takes_part(name, params)] for notebook, stages in NOTEBOOKS.items()}
    return [Step(notebook, tuple(open_stage(name, params) for name in names)) for notebook, names in found.items() if names]


def absent(params: Params) -> dict[str, str]:
    """The notebooks of which no stage is part of a run, each with the reason."""
    why = left_out(params)
    return {notebook: why[stages[0]] for notebook, stages in NOTEBOOKS.items() if set(stages) <= set(why)}


def select(start: str | None = None, stop: str | None = None, only: str | None = None) -> list[str]:
    """The notebooks from `start` to `stop`, both included, or `only` one; each by number (5), notebook (05_weak) or stage (weak).

    Raises:
        UserError: no such notebook or stage, or an empty selection.
    """
    names = list(NOTEBOOKS)
    if only is not None:
        if start is not None or stop is not None:
            raise UserError("--only takes one notebook: leave out --from and --to")
        return [_notebook(only)]
    first = names.index(_notebook(names[0] if start is None else start))
    last = names.index(_notebook(names[-1] if stop is None else stop))
    if first > last:
        raise UserError(f"--from {start} comes after --to {stop}: swap them")
    return names[first : last + 1]


def _notebook(name: str) -> str:
    for notebook, stages in NOTEBOOKS.items():
        number, _, title = notebook.partition("_")
        if name in (notebook, number, number.lstrip("0"), title, *stages):
            return notebook
    raise UserError(f"no notebook or stage {name or repr(name)}: choose one of {', '.join(NOTEBOOKS)}, or of {', '.join(RUN)}")


def check(steps: list[Step], here: bool = True) -> list[str]:
    """Everything that can be known before the first kernel starts, here or on another machine.

    Returns:
        See `check_stages`.

    Raises:
        UserError: a notebook, a data package, the hub or an input outside the selection is missing, a finished stage is damaged, or
            lora.targets name no layer.
    """
    for step in steps:
        if not step.source.is_file():
            raise UserError(f"{step.source}: no such notebook; run conan-lib inside a checkout of the project")
    selected = {stage.name: stage for step in steps for stage in step.stages}
    for stage in selected.values():
        if stage.finished:
            stage.artefact.verify(QUICKLY_HASHED)
    for step in steps:
        for stage in step.stages:
            for name, other in stage.inputs.items():
                if name not in selected and not stage.finished and not other.finished:
                    raise UserError(f"{step.title}: stage {stage.name} needs {name} ({other.key}), which {other.artefact.undone}")
    return check_stages((stage for step in steps for stage in step.stages if not stage.finished), here)


def run_notebooks(
    params_file: str | Path, start: str | None = None, stop: str | None = None, only: str | None = None, console: Console | None = None
):
    """Run the selected notebooks, skip what is done, resume what is partial, and build the report if anything changed.

    Killed at any moment and run again, it goes on where it stopped.

    Args:
        params_file: a tier's YAML file.
        start, stop, only: see `select`.

    Raises:
        UserError: a mistake, found before any kernel starts where that is possible.
        RunError: a notebook failed.
    """
    path = resolve(params_file)
    params, console = load_params(path), console or Console(highlight=False, soft_wrap=True)
    steps, began = steps_of(params), time.monotonic()
    chosen = [step for step in steps if step.title in select(start, stop, only)]
    for line in check(chosen):
        console.print(line, markup=False)
    for notebook, why in absent(params).items():
        if notebook in select(start, stop, only):
            _say_absent(steps[0].copy.with_name(f"{notebook}.ipynb"), why, console)
    for step in chosen:
        if step.finished:
            say(console, "already done", step)
    todo = [step for step in chosen if not step.finished]
    warm = WarmStart([step.source for step in todo] if len(todo) > 1 else [], environment_of(params))
    clock = Clock((stage for step in chosen for stage in step.stages), committed(params.tier) / "tables" / "stages.csv")

    def execute(step: Step, log: Path) -> None:
        _execute(step, path, kernel_manager(environment_of(params), warm), LiveLine(runner.show, runner.tell))

    runner = Runner(todo, console, clock, f"notebooks/{params.tier}", make_worker=lambda params: Here(execute))
    runner.run()
    if _report(steps, params, path, console, warm):
        stages = [stage for step in steps for stage in step.stages]
        console.print(closing_table(stages, time.monotonic() - began, project_root() / params.runtime.reports / params.tier))


def _execute(step: Step, params_file: Path, manager: type, live: "LiveLine") -> None:
    """Run one notebook in a kernel of this Python; `live` gets its output."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    step.copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            step.source,
            step.copy,
            # the executed copy must not carry this machine's paths
            parameters={"params_file": below_root(params_file.resolve())},
            kernel_name="python3",
            progress_bar=False,
            cwd=str(project_root()),
            stdout_file=live,
            stderr_file=live,
            kernel_manager_class=manager,
        )
    except papermill.PapermillExecutionError as error:
        message = next((line for line in error.evalue.splitlines() if line.strip()), "")
        if error.ename == "UserError":
            raise UserError(message) from None
        raise RunError(
            f"{_where(step)} failed in cell {error.exec_count}: {error.ename}: {message} (see {os.path.relpath(step.copy)})"
        ) from None
    except KeyboardInterrupt:
        # who waited for the kernel has gone, so asyncio would complain, after the line that says how to go on, of its end
        logging.getLogger("asyncio").disabled = True
        raise
    except DeadKernelError:
        raise RunError(f"{_where(step)}: the kernel died, perhaps out of memory (see {os.path.relpath(step.copy)})") from None
    write_json(step.copy.with_suffix(".json"), step.record)


def _say_absent(copy: Path, why: str, console: Console) -> None:
    """Write the title of a notebook and, in the place of the rest, why it is no part of this run."""
    import nbformat

    title = nbformat.read(project_root() / "notebooks" / copy.name, as_version=4).cells[0].source.splitlines()[0]
    console.print(f"{'not part':13} {copy.stem}: {why}")
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"{title}\n\nNot part of this run: {why}.", id="absent")])
    copy.parent.mkdir(parents=True, exist_ok=True)
    with replacing(copy) as new:
        nbformat.write(page, new)
    copy.with_suffix(".json").unlink(missing_ok=True)


def _where(step: Step) -> str:
    unfinished = [stage.name for stage in step.stages if not stage.finished]
    return f"{step.title}: stage {unfinished[0]}" if unfinished else f"{step.title}: a figure"


def _report(steps: list[Step], params: Params, params_file: Path, console: Console, warm: WarmStart) -> bool:
    """Build the report where every step is done and the last report showed something else; whether there is one."""
    if waiting := [step.title for step in steps if not step.finished]:
        console.print(f"no report yet: {', '.join(waiting)} not done")
        return False
    record, shown = {step.title: step.record for step in steps}, steps[0].copy.with_name("report.json")
    page = project_root() / params.runtime.reports / params.tier / "report.md"
    if _read(shown) != record or not page.is_file():
        with console.status("report"):
            warm.call(partial(_build_report, str(params_file)))
        write_json(shown, record)
    console.print(f"report: {os.path.relpath(page)}")
    return True


def _build_report(params_file: str) -> None:
    from conan_lib.report.build import build_report

    build_report(params_file)


def train(name: str, params_file: str | Path, minutes: float | None = None) -> Stage:
    """Compute one stage in this process: what a terminal, `accelerate launch` or a batch system calls.

    Args:
        minutes: training saves a checkpoint and stops after this time, as on SIGTERM and SIGUSR1; None: it runs to its end.

    Raises:
        UserError: no such stage, a mistake in the parameters, data or a hub that is not there, or an input that has not finished.
        Stopped: the time was up.
    """
    params = load_params(resolve(params_file))
    deadline = {} if minutes is None else {"deadline": time.time() + 60 * minutes}
    params = params.model_copy(update={"runtime": params.runtime.model_copy(update={"stop_on_signal": True, **deadline})})
    stage = open_stage(name, params)
    check_stages([] if stage.finished else [stage])
    return compute(stage)


class LiveLine:
    """A file for papermill to write a kernel's output to, of which the last line is shown, and what is for the user told."""

    def __init__(self, show: Callable[[str], None], tell: Callable[[str], None]):
        self.show, self.tell = show, tell

    def write(self, text: str) -> None:
        """Show the last line of `text` that is not empty; a progress bar ends its lines with a carriage return."""
        if lines := [line for line in re.split(r"[\r\n]", text) if line.strip()]:
            for line in lines:
                if line.startswith(SAID):
                    self.tell(line)
            self.show(lines[-1].strip())

    def flush(self) -> None:
        """Nothing is held back."""


def _read(path: Path) -> dict | None:
    """A record of what was shown; None where it is missing or damaged, and what it stands for is drawn again."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
