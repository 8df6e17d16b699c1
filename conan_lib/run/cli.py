"""The command `conan-lib`: run, status, plan, train, job, pack, unpack, translate, export, report.

A user's mistake is one line on stderr and exit code 2.
"""

import errno
import os
import re
import sys
from math import isfinite
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from conan_lib.errors import Stopped, UserError
from conan_lib.params import Params
from conan_lib.params.data import TranslateParams
from conan_lib.params.load import read_yaml
from conan_lib.run import notebooks as pipeline
from conan_lib.stages import open_stage, project_root

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="Conan-Embedding-v2, reproduced from a parameter file."
)
File = Annotated[Path, typer.Argument(help="A parameter file, for example params/tiny.yaml.", show_default=False)]

PACKED = "data,tokenizer,teacher"
"""What `pack` takes of a parameter file: what a machine without the data packages trains on."""

FILES = {
    errno.EEXIST: "is a file, where a folder is needed: name another",
    errno.ENOTDIR: "is below a file, where a folder is needed: name another",
    errno.EISDIR: "is a folder, where a file is needed: name another",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "may not be read or written: change its permissions, or name another"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "no space is left: make room and run it again"),
    errno.EFBIG: "grows larger than a file may be here: raise the limit (ulimit -f), or name a place on another disk",
    errno.ENAMETOOLONG: "is too long a name: name a shorter one",
    errno.ELOOP: "is a link that leads to itself: name another",
    errno.EIO: "cannot be read or written: look after the disk",
}
"""What the file system refuses, and the mend; other errors of the system are not the user's."""


def _minutes(minutes: float | None) -> float | None:
    if minutes is not None and not (isfinite(minutes) and minutes > 0):
        raise UserError(f"--minutes {minutes:g}: give minutes above 0")
    return minutes


(_UsageError,) = typer.BadParameter.__bases__  # typer carries its own copy of click, so there is no public name for it


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
        pipeline.run(file, start, stop, only)
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
def status(file: File):
    """Show every stage: its key, whether it is new, partial or finished, and the seconds that it took."""
    table = Table("notebook", "stage", "key", "status", "seconds")
    table.columns[-1].justify = "right"
    for step in pipeline.steps_of(pipeline.load(file)):
        for stage in step.stages:
            seconds = f"{stage.artefact.manifest['seconds']:.1f}" if stage.finished else ""
            table.add_row(step.notebook, stage.name, stage.key, stage.status, seconds)
    Console().print(table)


@app.command()
def plan(file: File):
    """Show what a run would do, without running it: the model's size, stages and steps; then check everything that a run checks."""
    params = pipeline.load(file)
    steps = pipeline.steps_of(params)
    from conan_lib.model.backbone import describe
    from conan_lib.model.start import backbone_of

    console = Console(highlight=False, soft_wrap=True)
    config, start = backbone_of(params)
    for name, value in {name: start[name] for name in ("start", "revision", "licence", "homepage") if start.get(name)}.items():
        console.print(f"{name}: {value}")
    for name, value in describe(config).items():
        console.print(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")
    console.print()
    for step in steps:
        for stage in step.stages:
            optimiser = next((getattr(stage, section) for section in stage.sections if hasattr(getattr(stage, section), "max_steps")), None)
            work = (
                f"{optimiser.max_steps:,} steps"
                if optimiser
                else "passes the start through"
                if stage.name in stage.sections and getattr(stage, stage.name) is None and stage.name != "tokenizer"
                else ""
            )
            verb = {"finished": "skip", "partial": "resume", "new": "run"}[stage.status]
            console.print(f"{step.notebook:14} {stage.name:18} {stage.key}  {verb:7} {work}".rstrip())
    pipeline.check(steps)


@app.command()
def train(
    stage: Annotated[str, typer.Argument(help="A stage, for example pretrain.", show_default=False)],
    file: File,
    minutes: Annotated[
        float | None, typer.Option(callback=_minutes, help="Save a checkpoint and stop after this time; one process alone.")
    ] = None,
):
    """Compute one stage in this process, without Jupyter; also under `accelerate launch` or a batch system."""
    done = pipeline.train(stage, file, minutes)
    Console(highlight=False, soft_wrap=True).print(f"{done.name} {done.key}: {done.status}, {done.path}")


@app.command()
def job(
    file: Annotated[Path, typer.Argument(help="A job file, for example params/jobs/h100.yaml.", show_default=False)],
    minutes: Annotated[
        float | None, typer.Option(callback=_minutes, help="Stop in order after this time; the same command goes on.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is done and left, and an estimate of the time.")] = False,
):
    """Run stages and grids in the order of their worth, several at once, for as long as there is time (docs/gpu.md)."""
    from conan_lib.run.job import run_job

    run_job(file, minutes, dry_run)


@app.command()
def pack(
    file: Annotated[Path, typer.Argument(help="A parameter file or a job file.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Where the parts go.", show_default=False)],
    stages: Annotated[str | None, typer.Option(help="Of a parameter file: which stages, with commas.", show_default=PACKED)] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="The models' weights alone, rounded to bf16, instead of everything else.")
    ] = False,
    part: Annotated[float, typer.Option(help="Largest part in MiB.")] = 15,
):
    """Put finished stages into a few files to carry to another machine; of a job file, all that the job has finished (docs/gpu.md)."""
    from conan_lib.run.job import open_job, results_of
    from conan_lib.run.parcel import pack as pack_stages

    file = pipeline.resolve(file)
    if "steps" in read_yaml(file):
        if stages is not None:
            raise UserError(f"--stages {stages}: {file} is a job, of which all that has finished is packed: leave --stages out")
        chosen = results_of(open_job(file))
    else:
        params = pipeline.load(file)
        chosen = [open_stage(name.strip(), params) for name in (PACKED if stages is None else stages).split(",")]
    index = pack_stages(chosen, folder, part, weights)
    size = sum(one["size"] for one in index["parts"])
    Console(highlight=False, soft_wrap=True).print(
        f"{folder}: {len(index['artefacts'])} artefacts, {index['files']} files, {index['bytes'] / 2**20:.1f} MiB in "
        f"{len(index['parts'])} parts of {size / 2**20:.1f} MiB"
    )


@app.command()
def unpack(
    folder: Annotated[Path, typer.Argument(help="The parts, as pack wrote them.", show_default=False)],
    artefacts: Annotated[Path | None, typer.Option(help="Where results live; by default the project's artefacts/.")] = None,
):
    """Take artefacts from another machine over: what was finished there is finished here."""
    from conan_lib.run.parcel import unpack as unpack_parcel

    console = Console(highlight=False, soft_wrap=True)
    for name, state in unpack_parcel(folder, artefacts or project_root() / "artefacts").items():
        console.print(f"{name}  {state}")


@app.command()
def translate(
    pairs: Annotated[Path, typer.Argument(help="Your pairs: .jsonl or .parquet with id, query, passage, lang.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Where the data set comes to be.", show_default=False)],
    file: Annotated[Path | None, typer.Option("--params", help="A parameter file; its section translate is read.")] = None,
    translations: Annotated[Path | None, typer.Option(help="Human translations (id, lang, text) instead of a model's.")] = None,
    model: Annotated[str | None, typer.Option(help="Instruction model: a name on the hub or a folder.")] = None,
    backend: Annotated[str | None, typer.Option(help="transformers or vllm.")] = None,
):
    """Make cross-lingual retrieval data of your own pairs: queries are translated and checked, passages stay (docs/clr.md)."""
    from conan_lib.data.translate.build import build_clr
    from conan_lib.topics.data.show import translation_checks

    given = pipeline.load(file) if file else Params(tier="translate")
    if translations and (model or backend not in (None, "aligned")):
        raise UserError("--translations takes neither --model nor --backend: no model translates then")
    over = {"translator": "aligned" if translations else backend, "model": model}
    try:
        own = TranslateParams.model_validate(given.translate.model_dump() | {name: value for name, value in over.items() if value})
    except ValidationError as error:
        raise UserError("; ".join(f"translate.{e['loc'][0]}: {e['msg']}" for e in error.errors())) from None
    results = build_clr(pairs, folder, own, translations, device=given.runtime.device)
    console = Console(highlight=False, soft_wrap=True)
    if "waiting" in results:
        console.print(f"{folder}: {results['waiting']} shards are in the hands of other processes; the last one finishes the data set")
        return
    translation_checks(folder).savefig(folder / "checks" / "funnel.png", dpi=150)
    refused = ", ".join(f"{reason} {count:,}" for reason, count in results["refused"].items()) or "none"
    console.print(f"{folder}: {results['kept']:,} queries in {len(results['languages'])} languages kept; refused: {refused}")


@app.command()
def export(
    file: File,
    folder: Annotated[Path, typer.Argument(help="A new or an empty folder.", show_default=False)],
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write onnx/model.onnx, for onnxruntime.")] = False,
):
    """Write the last checkpoint as a sentence-transformers folder with its model card, ready for the hub (docs/export.md)."""
    pipeline.load(file)  # a mistake in the file comes before a missing package
    from conan_lib.run.export import export_model

    export_model(pipeline.resolve(file), folder, onnx)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    Console(highlight=False, soft_wrap=True).print(f"{folder}: {len(files)} files, {size / 1e6:.1f} MB")


@app.command()
def report(
    file: Annotated[str, typer.Argument(help="A parameter file, or the name of a tier.", show_default=False)],
    other: Annotated[str | None, typer.Argument(help="Another one: compare the two runs.", show_default=False)] = None,
):
    """Build reports/<tier>/ again from the finished stages, or compare two runs in reports/compare/."""
    first, second = pipeline.tier_file(file), other and pipeline.tier_file(other)
    for path in filter(None, (first, second)):
        pipeline.load(path)  # a mistake in a file comes before a missing package
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
    Console(highlight=False, soft_wrap=True).print(f"{what}: {os.path.relpath(folder)}/report.md")


def main() -> None:
    """Entry point: 0 done, 1 a stage failed, 2 a user's mistake, 3 time was up, 130 interrupted; run it again to go on after 3 and 130."""
    try:
        code = app(standalone_mode=False)
        if code == 130:
            _say("interrupted; run it again to go on", code)
    except UserError as error:
        code = _say(str(error), 2)
    except _UsageError as error:
        code = _say(f"{error.format_message()} (see conan-lib --help)", 2)
    except Stopped as stopped:
        code = _say(f"{stopped}; run it again to go on", 3)
    except pipeline.RunError as error:
        code = _say(str(error), 1)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("conan_lib"):
            raise
        code = _say(f"package {error.name} is not installed: run make, or pip install 'conan-lib[notebooks]'", 2)
    except Exception as error:
        told = re.search(r"\(os error (\d+)\)", str(error))  # safetensors and tokenizers, written in Rust, have no errno
        number = getattr(error, "errno", None) or (told and int(told[1]))
        if re.search(r"unexpected pos \d+ vs \d+", str(error)):  # torch.save, whose file ends too early
            code = _say("a checkpoint could not be written: is there space left? make room and run it again", 2)
        elif number in FILES:
            code = _say(f"{getattr(error, 'filename', None) or getattr(error, 'strerror', None) or error}: {FILES[number]}", 2)
        else:
            raise
    sys.exit(code or 0)


def _say(message: str, code: int) -> int:
    print("conan-lib:", " ".join(message.split()), file=sys.stderr)
    return code
