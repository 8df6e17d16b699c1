"""Commands about data: what travels between machines, and data sets made of one's own pairs."""

from pathlib import Path
from typing import Annotated

import typer

from conan_lib.errors import UserError
from conan_lib.params.sets import Task
from conan_lib.run.cli.app import app, say

PACKED = "corpus,sets,heldout,tokenizer,teacher"
"""What `pack` takes of a parameter file: what a machine without the data packages trains on."""


@app.command()
def pack(
    file: Annotated[Path, typer.Argument(help="A parameter file or a job file.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Where the parts go.", show_default=False)],
    stages: Annotated[
        str | None, typer.Option(help="Which stages, with commas. Of a job, or with --results: all that finished.", show_default=PACKED)
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="The models' weights alone, rounded to bf16, instead of everything else.")
    ] = False,
    results: Annotated[
        bool, typer.Option("--results", help="What a report is drawn from alone, of a job that of its grids: neither weights nor text.")
    ] = False,
    part: Annotated[float, typer.Option(help="Largest part in MiB.")] = 15,
):
    """Put finished stages, or what a job has finished, into a few files for another machine (docs/gpu.md)."""
    from conan_lib.params import load_params
    from conan_lib.params.load import read_yaml
    from conan_lib.run.job import open_job
    from conan_lib.run.parcel import pack as pack_stages
    from conan_lib.stages import open_stage, resolve
    from conan_lib.table import TABLE

    file, names = resolve(file), None if stages is None else [name.strip() for name in stages.split(",")]
    if names and (unknown := [name for name in names if name not in TABLE]):
        raise UserError(f"--stages: no stage {', '.join(unknown)}: choose from {', '.join(TABLE)}")
    if weights and results:
        raise UserError("--weights and --results are two parcels: give one of them")
    if "steps" in read_yaml(file):
        job = open_job(file)
        finished = job.evidence if results else job.results
        chosen = [stage for stage in finished if names is None or stage.name in names]
    else:
        params = load_params(file)
        chosen = [open_stage(name, params) for name in names or PACKED.split(",")]
        if results and names is None:
            from conan_lib.findings.run import Run
            from conan_lib.topics.mask.measure import shift_artefact

            shift = shift_artefact(open_stage("weak", params))
            chosen = [*Run.of(params, str(file)).evidence(), *([shift] if shift.finished else ())]
    index = pack_stages(chosen, folder, part, "weights" if weights else "results" if results else "inputs")
    size = sum(one["size"] for one in index["parts"])
    say(
        f"{folder}: {len(index['artefacts'])} artefacts, {index['files']} files, {index['bytes'] / 2**20:.1f} MiB in "
        f"{len(index['parts'])} parts of {size / 2**20:.1f} MiB"
    )


@app.command()
def unpack(
    folder: Annotated[Path, typer.Argument(help="The parts, as pack wrote them.", show_default=False)],
    artefacts: Annotated[Path | None, typer.Option(help="Where results live; by default the project's artefacts/.")] = None,
):
    """Take over what `pack` wrote on another machine: what was finished there is finished here."""
    from conan_lib.run.parcel import unpack as unpack_parcel
    from conan_lib.stages import project_root

    for name, state in unpack_parcel(folder, artefacts or project_root() / "artefacts").items():
        say(f"{name}  {state}")


@app.command()
def translate(
    pairs: Annotated[Path, typer.Argument(help="Your pairs, a file with id, query, passage, lang.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Folder to write the data set to.", show_default=False)],
    file: Annotated[Path | None, typer.Option("--params", help="A parameter file; its section translate is read.")] = None,
    translations: Annotated[Path | None, typer.Option(help="Human translations (id, lang, text) instead of a model's.")] = None,
    model: Annotated[str | None, typer.Option(help="Instruction model: a name on the hub or a folder.")] = None,
    backend: Annotated[str | None, typer.Option(help="transformers or vllm.")] = None,
):
    """Make cross-lingual retrieval data of your own pairs: queries are translated and checked, passages stay (docs/clr.md)."""
    from pydantic import ValidationError

    from conan_lib.data.translate.build import build_clr
    from conan_lib.findings.translations import translation_checks
    from conan_lib.options import mistakes
    from conan_lib.params import Params, load_params
    from conan_lib.stages import resolve

    given = load_params(resolve(file)) if file else Params(tier="translate")
    if translations and (model or backend not in (None, "aligned")):
        raise UserError("--translations takes neither --model nor --backend: no model translates then")
    over = {"translator": "aligned" if translations else backend, "model": model}
    section = given.translate.model_dump() | {name: value for name, value in over.items() if value}
    try:
        own = Params.model_validate({"tier": given.tier, "translate": section}).translate
    except ValidationError as error:
        raise UserError(mistakes(error, Params)) from None
    results = build_clr(pairs, folder, own, translations, device=given.runtime.device)
    if "waiting" in results:
        say(f"{folder}: {results['waiting']} shards are in the hands of other processes; the last one finishes the data set")
        return
    translation_checks(folder).savefig(folder / "checks" / "funnel.png", dpi=150)
    refused = ", ".join(f"{reason} {count:,}" for reason, count in results["refused"].items()) or "none"
    say(f"{folder}: {results['kept']:,} queries in {len(results['languages'])} languages kept; refused: {refused}")


@app.command()
def new(
    file: Annotated[Path, typer.Argument(help="The parameter file to write.", show_default=False)],
    start: Annotated[str, typer.Option(help="A decoder: a name on the hub, a folder, or package:NAME.", show_default=False)],
    data: Annotated[Path, typer.Option(help="Your records, in any form that data.sets knows (docs/own_data.md).", show_default=False)],
    task: Annotated[Task, typer.Option(help="What they train; clr: the query is in another language.")] = "retrieval",
    lang: Annotated[str, typer.Option(help="Their language (ISO 639-1); of clr that of the passages.")] = "en",
):
    """Write a short parameter file for your own data, with sizes that fit this machine."""
    from conan_lib.run.use.new import write_new

    found = write_new(file, start, data, task, lang)
    say(
        f"{file}: {found['rows']:,} rows, {found['parameters']:,} parameters; training takes {found['training'] / 2**30:.1f} GiB beside "
        f"activations, {found['room'] / 2**30:.1f} GiB are there. Next: conan-lib plan {file}"
    )
