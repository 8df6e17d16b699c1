"""The report of one parameter file: runs/<tier>/ from manifests and result files alone, on finished and unfinished runs.

    report.md, index.html   the same content for GitHub and for a browser
    figures/ tables/        every figure and every table as a file
    ablations/              table, figure and page of each grid that was run; those of an earlier run stay
    claims.json claims.csv  the claims ledger
    run.json                which run this is: when its last stage finished, from which revision
    notebooks/              the executed notebooks as HTML
    model_card.md           the card of the exported model

Each file is written atomically and is the same for the same artefacts; files of an earlier report that this one lacks are removed.
"""

import json
import os
from pathlib import Path
from string import ascii_uppercase

import pandas as pd

from conan_lib.findings.blocks import Figure, Table
from conan_lib.findings.claim import MEANINGS, Claim, Finding, caveats, ledger_row
from conan_lib.findings.dates import dates
from conan_lib.findings.files import write
from conan_lib.findings.grids import slopes_of_ablation, write_ablation
from conan_lib.findings.pipeline import pipeline
from conan_lib.findings.published import inconsistencies
from conan_lib.findings.run import Run
from conan_lib.findings.tables import to_csv
from conan_lib.findings.trained import trained_by
from conan_lib.report.card import model_card
from conan_lib.report.citations import Citations
from conan_lib.report.evidence import RECORD, beside, executed, record
from conan_lib.report.first import PAPER, abstract, forest_of_claims, strip
from conan_lib.report.headline import tiles, what
from conan_lib.report.notebooks import export
from conan_lib.report.render import inline, picture, template
from conan_lib.report.sections import Section, section
from conan_lib.stages import project_root
from conan_lib.topics import judge, topics

PIPELINE = "Four training stages (blue) build on each other; the rest feeds them (green) or measures them (orange)."


def build_report(params_file: str | Path, compared: bool = True) -> Path:
    """Build the report of a run, finished or not.

    Args:
        params_file: a tier's YAML file.
        compared: with the committed report of the tier beside it.

    Returns:
        The folder runs/<tier>.

    Raises:
        UserError: a mistake in the parameter file.
    """
    run = Run.open(params_file)
    folder = project_root() / run.params.runtime.reports / run.params.tier
    judged, parts = judge(run), [section(topic, run) for topic in topics()]
    others = beside(run, judged) if compared else None
    first = [forest_of_claims(judged), *filter(None, [slopes_of_ablation(run)])]
    picture_of_stages = Figure("pipeline", "The stages, and what feeds them.", pipeline(), ("conan_lib.table",), takeaway=PIPELINE)
    blocks = [*first, picture_of_stages, *([others] if others else []), *(block for part in parts for block in part.blocks)]
    pictures = {block.id: picture(block.drawing) for block in blocks if isinstance(block, Figure)}
    copies = executed(run)
    files = {block.id: block.written or f"figures/{block.id}.{pictures[block.id][0]}" for block in blocks if isinstance(block, Figure)}
    written = [write(folder / file, pictures[id][1]) for id, file in files.items() if file.startswith("figures/")]
    own = [block for block in blocks if isinstance(block, Table) and not block.written]
    written += [write(folder / block.file, to_csv(block)) for block in own]
    for ablation in run.ablations.values():
        if ablation.begun:
            write_ablation(ablation)
    for copy in copies:
        written.append(write(folder / "notebooks" / f"{copy.stem}.html", export(copy)))
        if (keys := copy.with_suffix(".json")).is_file():
            written.append(write(folder / "notebooks" / keys.name, keys.read_bytes()))
    context = _context(run, judged, parts, {copy.stem for copy in copies}) | {"cite": Citations(parts, copies, blocks)}
    context |= {"figure_files": files, "beside": others, "first": first, "pipeline": picture_of_stages}
    context["root"] = _root(folder)
    captions = {block.id: block.caption for block in blocks if isinstance(block, Figure)}
    context["inlined"] = {id: inline(id, kind, content, captions[id]) for id, (kind, content) in pictures.items()}
    ledger = [ledger_row(*pair) for pair in judged]
    write(folder / "claims.json", json.dumps(ledger, ensure_ascii=False, indent=1) + "\n")
    frame = pd.DataFrame(ledger, dtype=object)
    write(folder / "claims.csv", to_csv(Table("claims", "", frame.assign(details=frame["details"].map("; ".join)), ())))
    write(folder / RECORD, json.dumps(record(run), indent=1) + "\n")
    write(folder / "model_card.md", model_card(run))
    write(folder / "report.md", template("report.md.j2", html=False).render(context))
    write(folder / "index.html", template("index.html.j2", html=True).render(context))
    for name in ("figures", "tables", "notebooks"):
        for path in (folder / name).glob("*"):
            if path not in written:
                path.unlink()
    return folder


def _root(folder: Path) -> str | None:
    """The README of the checkout that a report stands in, as the report links it; None where it stands elsewhere."""
    readme = project_root() / "README.md"
    return os.path.relpath(readme, folder) if readme.is_file() and folder.is_relative_to(project_root()) else None


def _context(run: Run, judged: list[tuple[Claim, Finding]], parts: list[Section], notebooks: set[str]) -> dict:
    """What both templates print."""
    known = record(run)
    return {
        **known,
        "params_file": run.params_file,
        "date": known["finished"] or "no stage has finished",
        "machines": sorted({f"{m['environment']['machine']}, {m['environment']['device']}" for m in run.manifests.values()}),
        "stage_count": len(run.stages),
        "judged": judged,
        "inconsistencies": inconsistencies(),
        "claims": {claim.id: claim for claim, _ in judged},
        "dates": {claim.id: dates(run, claim, finding) for claim, finding in judged},
        "caveats": {claim.id: caveats(claim, finding) for claim, finding in judged},
        "trained": trained_by(run),
        "abstract": abstract(run, judged, what(run)),
        "paper": PAPER,
        "verdicts": {claim.id: finding.verdict for claim, finding in judged},
        "meanings": MEANINGS,
        "strips": {claim.id: strip(claim, finding) for claim, finding in judged},
        "letters": dict(
            zip(dict.fromkeys((trained_by(run), *(finding.model for _, finding in judged if finding.seeds))), ascii_uppercase, strict=False)
        ),
        "what": what(run),
        "tiles": tiles(run, [finding for _, finding in judged]),
        "sections": parts,
        "notebooks": sorted(notebooks),
    }
