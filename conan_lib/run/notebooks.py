"""Eight notebooks in order: which stages each one runs, the checks before the first kernel, and the run of them all through papermill."""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from conan_lib.artefacts import write_json
from conan_lib.errors import UserError
from conan_lib.params import Params, load_params
from conan_lib.run.checks import check_stages
from conan_lib.run.kernels import Nursery, imports_of, kernel_manager
from conan_lib.stages import Stage, below_root, blame, compute, open_stage, project_root, takes_part
from conan_lib.table import RUN, notebooks

NOTEBOOKS = notebooks()
REPORT = "conan_lib.report.build:build_report"
"""The call that draws the report."""


class RunError(Exception):
    """A notebook failed for a reason that is not the user's: one line with the stage, the error and the executed copy."""


@dataclass(frozen=True)
class Step:
    """One notebook of one run."""

    notebook: str
    stages: tuple[Stage, ...]

    @property
    def source(self) -> Path:
        return project_root() / "notebooks" / f"{self.notebook}.ipynb"

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
    def done(self) -> bool:
        """All stages finished, and an executed copy of this very notebook over them exists."""
        return all(stage.finished for stage in self.stages) and self.copy.is_file() and _read(self.copy.with_suffix(".json")) == self.record


def steps_of(params: Params) -> list[Step]:
    """All eight steps of a run; nothing is computed or checked."""
    return [
        Step(notebook, tuple(open_stage(name, params) for name in stages if takes_part(name, params)))
        for notebook, stages in NOTEBOOKS.items()
    ]


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


def check(steps: list[Step]) -> None:
    """Everything that can be known before the first kernel starts.

    Raises:
        UserError: a notebook, a data package, the hub or an input outside the selection is missing, or lora.targets name no layer.
    """
    for step in steps:
        if not step.source.is_file():
            raise UserError(f"{step.source}: no such notebook; run conan-lib inside a checkout of the project")
    selected = {stage.name for step in steps for stage in step.stages}
    for step in steps:
        for stage in step.stages:
            for name, other in stage.inputs.items():
                if name not in selected and not stage.finished and not other.finished:
                    raise UserError(
                        f"{step.notebook}: stage {stage.name} needs {name} ({other.key}), which is {other.status}: run it first"
                    )
    check_stages(stage for step in steps for stage in step.stages if not stage.finished)


def run(
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
    params, console = load(params_file), console or Console(highlight=False, soft_wrap=True)
    steps = steps_of(params)
    chosen = [step for step in steps if step.notebook in select(start, stop, only)]
    check(chosen)
    sources = [step.source for step in chosen if not step.done]
    with kernel_manager(kernel_environment(params), imports_of(sources), warm=len(sources) > 1) as manager:
        for step in chosen:
            if step.done:
                _print(console, step, "already done")
            else:
                _execute(step, params_file, console, manager)
        _report(steps, params, params_file, console, manager.nursery)


def load(params_file: str | Path) -> Params:
    """The tree of a file, which may be given relative to the project root."""
    return load_params(resolve(params_file))


def resolve(params_file: str | Path) -> Path:
    path = Path(params_file)
    return path if path.is_absolute() or path.is_file() or not (project_root() / path).is_file() else project_root() / path


def tier_file(name: str | Path) -> Path:
    """The parameter file of this path, or of this tier (params/<name>.yaml); an unknown name stays as it is, for `load` to refuse."""
    path, tier = resolve(name), project_root() / "params" / f"{name}.yaml"
    return tier if not path.is_file() and tier.is_file() else path


def _execute(step: Step, params_file: str | Path, console: Console, manager: type) -> None:
    """Run one notebook in a kernel of this Python, its last line of output beside the clock."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    stages = ", ".join(stage.name for stage in step.stages)
    step.copy.parent.mkdir(parents=True, exist_ok=True)
    root = project_root()
    path = resolve(params_file).resolve()
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), TextColumn("[dim]{task.fields[line]}")
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"{step.notebook}  {stages}", total=None, line="")
        live = LiveLine(lambda line: progress.update(task, line=escape(line)))
        try:
            papermill.execute_notebook(
                step.source,
                step.copy,
                # the executed copy must not carry this machine's paths
                parameters={"params_file": below_root(path)},
                kernel_name="python3",
                progress_bar=False,
                cwd=str(root),
                stdout_file=live,
                stderr_file=live,
                kernel_manager_class=manager,
            )
        except papermill.PapermillExecutionError as error:
            message = next((line for line in error.evalue.splitlines() if line.strip()), "")
            if error.ename == "UserError":
                raise UserError(message) from None
            for stage in step.stages:
                blame(stage)
            raise RunError(
                f"{_where(step)} failed in cell {error.exec_count}: {error.ename}: {message} (see {os.path.relpath(step.copy)})"
            ) from None
        except DeadKernelError:
            raise RunError(f"{_where(step)}: the kernel died, perhaps out of memory (see {os.path.relpath(step.copy)})") from None
    write_json(step.copy.with_suffix(".json"), step.record)
    _print(console, step, "done")


def _where(step: Step) -> str:
    unfinished = [stage.name for stage in step.stages if not stage.finished]
    return f"{step.notebook}: stage {unfinished[0]}" if unfinished else f"{step.notebook}: a figure"


def _print(console: Console, step: Step, what: str) -> None:
    for stage in step.stages:
        seconds = stage.artefact.manifest["seconds"] if stage.finished else float("nan")
        console.print(f"{step.notebook:14} {stage.name:18} {stage.key}  {seconds:7.1f} s  {what}")


def _report(steps: list[Step], params: Params, params_file: str | Path, console: Console, nursery: Nursery | None) -> None:
    """Build the report where every step is done and the last report showed something else."""
    if waiting := [step.notebook for step in steps if not step.done]:
        console.print(f"no report yet: {', '.join(waiting)} not done")
        return
    record, shown = {step.notebook: step.record for step in steps}, steps[0].copy.with_name("report.json")
    page = project_root() / params.runtime.reports / params.tier / "report.md"
    if _read(shown) != record or not page.is_file():
        path, (module, _, function) = str(resolve(params_file)), REPORT.partition(":")
        with console.status("report"):
            here = nursery is None or module in sys.modules  # else a fork, which need not import all that first
            if here or not nursery.call(REPORT, path):
                getattr(import_module(module), function)(path)
        write_json(shown, record)
    console.print(f"report: {os.path.relpath(page)}")


def train(name: str, params_file: str | Path, minutes: float | None = None) -> Stage:
    """Compute one stage in this process: what a terminal, `accelerate launch` or a batch system calls.

    Args:
        minutes: training saves a checkpoint and stops after this time; None: it runs to its end.

    Raises:
        UserError: no such stage, a mistake in the parameters, data or a hub that is not there, an input that has not finished, or a
            limit under a launcher.
        Stopped: the time was up.
    """
    params = load(params_file)
    if minutes is not None:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise UserError("--minutes: processes of one launch would not stop at the same step; let the launcher end them, they resume")
        runtime = params.runtime.model_copy(update={"deadline": time.time() + 60 * minutes})
        params = params.model_copy(update={"runtime": runtime})
    stage = open_stage(name, params)
    check_stages([] if stage.finished else [stage])
    return compute(stage)


def kernel_environment(params: Params) -> dict[str, str]:
    """This process' environment, and what makes a kernel quick or keeps it offline; none of it changes a result.

    The MALLOC settings keep freed memory in the process instead of giving it back and faulting it in anew: CPU training 1.2 times as fast.
    """
    local = params.data.source == "embedded" and params.tasks.suite == "embedded" and params.mkqa.source != "hub"
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(params.runtime.threads),
        # on two cores threads of their own cost more than they save; on many, tokenizing alone would take longer than a GPU's step
        "TOKENIZERS_PARALLELISM": "true" if params.runtime.threads > 2 else "false",
        "RAYON_NUM_THREADS": str(params.runtime.threads),
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "100000000000",
        "MALLOC_TOP_PAD_": "500000000",
        **({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"} if local else {}),
    }


class LiveLine:
    """A file for papermill to write a kernel's output to, of which the last line is shown."""

    def __init__(self, show: Callable[[str], None]):
        self.show = show

    def write(self, text: str) -> None:
        """Show the last line of `text` that is not empty; a progress bar ends its lines with a carriage return."""
        if lines := [line for line in re.split(r"[\r\n]", text) if line.strip()]:
            self.show(lines[-1].strip())

    def flush(self) -> None:
        """Nothing is held back."""


def _read(path: Path) -> dict | None:
    """A record of what was shown; None where it is missing or damaged, and what it stands for is drawn again."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
