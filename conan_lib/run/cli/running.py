"""Commands that run something: the notebooks, a grid, a stage, a job; what is done, what would be, and the report of it."""

import os
from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from conan_lib.errors import UserError
from conan_lib.run.cli.app import File, app, say


def _minutes(minutes: float | None) -> float | None:
    if minutes is not None and not (isfinite(minutes) and minutes > 0):
        raise UserError(f"--minutes {minutes:g}: give minutes above 0")
    return minutes


@app.command()
def run(
    file: Annotated[Path | None, typer.Argument(help="A parameter file; none with --grid.", show_default=False)] = None,
    start: Annotated[str | None, typer.Option("--from", help="First notebook: number (5), name (05_weak) or stage (weak).")] = None,
    stop: Annotated[str | None, typer.Option("--to", help="Last notebook, included.")] = None,
    only: Annotated[str | None, typer.Option("--only", help="Just this notebook.")] = None,
    grid: Annotated[Path | None, typer.Option("--grid", help="A grid file, for example params/grids/sm_clr_dhnm.yaml.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="With --grid: seeds in the place of the file's, for example 0,1,2.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --grid: show cells, stages and an estimate of the time.")] = False,
):
    """Run the notebooks in order, skip finished stages, resume partial ones, and build the report; or run a grid, without Jupyter."""
    if grid is None:
        if file is None or seeds is not None or dry_run:
            raise UserError("run takes a parameter file, or --grid with a grid file; --seeds and --dry-run belong to --grid")
        from conan_lib.run.notebooks import run_notebooks

        run_notebooks(file, start, stop, only)
        return
    if any(given is not None for given in (file, start, stop, only)):
        raise UserError("--grid takes no parameter file, --from, --to or --only: its file names the base and the stages")
    from conan_lib.run.grid import run_grid

    run_grid(grid, None if seeds is None else _seeds(seeds), dry_run)


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) <= 10 for part in parts) or len(set(parts)) < len(parts):
        raise UserError(f"--seeds {text[:80]}: give different whole numbers with commas between them, for example 0,1,2")
    return tuple(map(int, parts))


@app.command()
def status(file: File, check: Annotated[bool, typer.Option("--check", help="Also read every file of the finished stages.")] = False):
    """Show every stage: its key, whether it is new, partial, finished or damaged, and the seconds that it took."""
    from rich.console import Console
    from rich.table import Table

    from conan_lib.params import load_params
    from conan_lib.run.notebooks import steps_of
    from conan_lib.stages import resolve

    table, damaged = Table("notebook", "stage", "key", "status", "seconds"), []
    table.columns[-1].justify = "right"
    for step in steps_of(load_params(resolve(file))):
        for stage in step.stages:
            state, seconds = "damaged", ""
            try:
                if stage.finished:
                    stage.artefact.verify(float("inf") if check else 0)
                    seconds = f"{stage.artefact.manifest['seconds']:.1f}"
                state = stage.status
            except UserError as error:
                damaged.append(str(error))
            table.add_row(step.title, stage.name, stage.key, state, seconds)
    Console().print(table)
    if damaged:
        raise UserError("; ".join(damaged))


@app.command()
def plan(
    file: File,
    launch: Annotated[
        Path | None, typer.Option(help="A file of params/accelerate: how many devices, and whether they share the weights.")
    ] = None,
    teraflops: Annotated[float, typer.Option(min=0.001, help="TFLOP per second of one device; 989 is an H100 or H200 in bf16.")] = 989.0,
    mfu: Annotated[float, typer.Option(min=0.01, max=1, help="The share of these FLOP that training reaches.")] = 0.4,
):
    """Show what a run would do and cost (sizes, memory, hours, data sets, stages), and check all that a run checks; nothing is run."""
    from conan_lib.params import load_params
    from conan_lib.run.budget import machine_of
    from conan_lib.run.estimate import training_time
    from conan_lib.run.notebooks import check, steps_of
    from conan_lib.stages import left_out, resolve
    from conan_lib.table import CHECKPOINTS, RUN, START, TABLE

    machine = machine_of(launch and resolve(launch), teraflops=teraflops, mfu=mfu)
    params = load_params(resolve(file))
    steps = steps_of(params)
    from conan_lib.model.backbone import describe
    from conan_lib.model.start import backbone_of

    config, start = backbone_of(params)
    for name, value in {name: start[name] for name in ("start", "revision", "licence", "homepage") if start.get(name)}.items():
        say(f"{name}: {value}")
    for name, value in describe(config).items():
        say(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")
    say(f"time of training here, roughly: {training_time(params, config)}")
    _cost(params, config, machine)
    for row in params.data.sets or ():
        pinned = " (not pinned)" if row.hub and not row.pinned else ""
        say(f"{row.task or 'embedded':14} {row.source:18} {' '.join(row.languages) or 'as told':10}  {row.from_}{pinned}")
    from conan_lib.data.catalogue import unfed

    for task, languages in unfed(params.data, ("text", "weak", *(task for task, share in params.supervised.mix.items() if share))).items():
        say(f"{task:14} nothing in {' '.join(languages)}")
    for step in steps:
        for stage in step.stages:
            optimiser = next((getattr(stage, section) for section in stage.sections if hasattr(getattr(stage, section), "max_steps")), None)
            passes = stage.name in CHECKPOINTS and not params.trains(stage.name)
            work = "passes the model through" if passes else f"{optimiser.max_steps:,} steps" if optimiser else ""
            verb = {"finished": "skip", "partial": "resume", "new": "run"}[stage.status]
            say(f"{step.title:14} {stage.name:18} {stage.key}  {verb:7} {work}".rstrip())
    for name, why in left_out(params).items():
        if name in RUN and name != START:
            say(f"{TABLE[name].notebook:14} {name:18} not part of this run: {why}")
    say(*check(steps, here=False))
    for row in params.data.declared:
        if row.hub and not row.pinned:
            from conan_lib.data.declared.hub import resolved

            say(f"{row.from_} is {resolved(row)} today: write that commit into its row to keep it")


def _cost(params, config, machine) -> None:
    """Print what training costs on a machine, beside what the paper reports."""
    from rich.console import Console
    from rich.table import Table

    from conan_lib.run.budget import HEADS, helpers, stored_bytes, table

    how = "in shares (FSDP)" if machine.sharded else "each with all weights"
    say("", f"training on {machine.devices} devices of {machine.teraflops:g} TFLOP/s at {machine.mfu:.0%} MFU, {how}:")
    shown = Table(*HEADS, box=None)
    for row in table(params, config, machine):
        shown.add_row(*row)
    Console(width=160).print(shown)
    say(*helpers(params, machine))
    say("on disk: " + ", ".join(f"{name} {size / 1e9:,.1f} GB" for name, size in stored_bytes(params, config).items()), "")


@app.command()
def train(
    stage: Annotated[str, typer.Argument(help="A stage, for example pretrain.", show_default=False)],
    file: File,
    minutes: Annotated[
        float | None, typer.Option(callback=_minutes, help="Save a checkpoint and stop after this time, or on SIGTERM or SIGUSR1.")
    ] = None,
    stopped: Annotated[
        Path | None,
        typer.Option(help="A file that is there afterwards only if training stopped in order and is to go on: for batch systems."),
    ] = None,
):
    """Compute one stage in this process, without Jupyter; also under `accelerate launch` or srun (docs/cluster.md)."""
    from conan_lib.run.launch import launched, marked

    with launched() as leads, marked(stopped if leads else None):
        from conan_lib.run.notebooks import train

        done = train(stage, file, minutes)
        if leads:
            say(f"{done.name} {done.key}: {done.status}, {done.path}")


@app.command()
def job(
    file: Annotated[Path, typer.Argument(help="A job file, for example params/jobs/h100.yaml.", show_default=False)],
    minutes: Annotated[
        float | None, typer.Option(callback=_minutes, help="Stop in order after this time; the same command goes on.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is done and left, and an estimate of the time.")] = False,
):
    """Run stages and grids by priority, several at once, until time runs out (docs/gpu.md)."""
    from conan_lib.run.job import run_job

    run_job(file, minutes, dry_run)


@app.command()
def report(
    file: Annotated[str, typer.Argument(help="A parameter file, or the name of a tier.", show_default=False)],
    other: Annotated[str | None, typer.Argument(help="Another one: compare the two runs.", show_default=False)] = None,
):
    """Build runs/<tier>/ again from the finished stages, or compare two runs in runs/compare/."""
    from conan_lib.params import load_params

    first, second = _tier_file(file), other and _tier_file(other)
    for path in filter(None, (first, second)):
        load_params(path)  # a mistake in a file comes before a missing package
    if second is None:
        from conan_lib.findings.run import Run
        from conan_lib.report.build import build_report

        made = Run.open(first)
        if not any(map(made.finished, made.stages)) and not any(any(grid.finished.values()) for grid in made.ablations.values()):
            raise UserError(f"{file}: no stage has finished, so there is nothing to report: run `conan-lib run {first}` first")
        what, folder = "report", build_report(first)
    else:
        from conan_lib.report.compare import compare

        what, folder = "comparison", compare(first, second)
    say(f"{what}: {os.path.relpath(folder)}/report.md")


@app.command()
def publish(
    file: Annotated[str, typer.Argument(help="A parameter file, or the name of a tier.", show_default=False)],
    partial: Annotated[bool, typer.Option("--partial", help="Publish although stages have not finished, or grids are not here.")] = False,
):
    """Replace the committed report reports/<tier>/ with that of your run, and say what it replaced."""
    from conan_lib.params import load_params

    path = _tier_file(file)
    load_params(path)
    from conan_lib.report.evidence import publish

    done = publish(path, partial)
    for line in done.changed:
        say(f"verdict of {line}")
    counts = (f"{len(files)} {what}" for what, files in (("new", done.new), ("replaced", done.replaced), ("removed", done.removed)))
    say(f"published: {os.path.relpath(done.folder)}/report.md; files: {', '.join(counts)}; git diff shows them")


def _tier_file(name: str) -> Path:
    """The parameter file of this path, or of this tier (params/<name>.yaml); an unknown name stays as it is, to be refused."""
    from conan_lib.stages import project_root, resolve

    path, tier = resolve(name), project_root() / "params" / f"{name}.yaml"
    return tier if not path.is_file() and tier.is_file() else path
