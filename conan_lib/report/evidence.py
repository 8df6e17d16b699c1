"""The committed report of a tier beside a run's own: its verdicts, when and from which revision; and the one way to replace it.

A run writes below runtime.reports, which git ignores. reports/<tier>/ is evidence: `publish` alone writes there.
"""

import filecmp
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from conan_lib.errors import UserError
from conan_lib.files import read_json
from conan_lib.findings.blocks import Block, Table
from conan_lib.findings.claim import Claim, Finding
from conan_lib.findings.files import FOLDER, RECORD, committed, write
from conan_lib.findings.grids import files_of
from conan_lib.findings.run import Run
from conan_lib.findings.tables import measured
from conan_lib.stages import below_root, project_root


def record(run: Run) -> dict:
    """What RECORD holds."""
    manifests = run.manifests.values()
    return {
        "tier": run.params.tier,
        "finished": max((manifest["finished_at"] for manifest in manifests), default=None),
        "revisions": sorted({manifest["environment"]["revision"] or "no checkout" for manifest in manifests}),
        "unfinished": [name for name in run.stages if not run.finished(name)],
    }


def executed(run: Run) -> list[Path]:
    """The executed notebooks; where there are none, since results alone were carried here, the pages of the same run's committed report."""
    copies = sorted((project_root() / run.params.runtime.artefacts / "notebooks" / run.params.tier).glob("*.ipynb"))
    return copies or (sorted((committed(run.params.tier) / "notebooks").glob("*.html")) if of_this_run(run) else [])


def of_this_run(run: Run) -> bool:
    """Whether the committed report of the tier was drawn from these very artefacts."""
    path, names = committed(run.params.tier) / RECORD, ("finished", "revisions")
    known = read_json(path) if path.is_file() else {}
    return bool(known) and [known[name] for name in names] == [record(run)[name] for name in names]


def beside(run: Run, judged: list[tuple[Claim, Finding]]) -> Block | None:
    """Each claim's verdict in this run and in the committed report of the tier; None where there is none, or it is of this very run."""
    folder = committed(run.params.tier)
    if not (folder / "claims.json").is_file() or not (folder / RECORD).is_file() or of_this_run(run):
        return None
    known = read_json(folder / RECORD)
    theirs = ledger(folder)
    rows = []
    for claim, finding in judged:
        row, low, high = theirs.get(claim.id, {}), *(finding.interval or (None, None))
        rows.append(
            {"claim": f"{claim.id} {claim.name}", "this run": finding.verdict}
            | measured("effect", {"value": finding.effect, "low": low, "high": high})
            | {"seeds": finding.seeds, "committed": row.get("verdict")}
            | measured("committed effect", row, value="effect")
            | {"committed seeds": row.get("seeds")}
        )
    caption = (
        f"This run beside the committed report {below_root(folder)}/report.md, finished {known['finished']}, "
        f"revision {', '.join(known['revisions'])}."
    )
    return Table("committed", caption, pd.DataFrame(rows, dtype=object), (f"{below_root(folder)}/claims.json",), "none")


def ledger(folder: Path) -> dict[str, dict]:
    """Claim -> its row in a report's claims.json; empty where there is no such file."""
    path = folder / "claims.json"
    return {row["id"]: row for row in read_json(path)} if path.is_file() else {}


@dataclass(frozen=True)
class Published:
    """What `publish` did: the folder, the files it wrote new, replaced and removed, and claims whose verdict is another."""

    folder: Path
    new: tuple[str, ...]
    replaced: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


def publish(params_file: str | Path, partial: bool = False) -> Published:
    """Copy a run's report over the committed one of its tier. What this report does not draw goes; folders that no report has stay, as a
    parcel of scores.

    Args:
        params_file: the run; its report is built anew.
        partial: also a run of which stages have not finished, or that lacks grids of the committed report, which are lost then.

    Raises:
        UserError: nothing has finished; without `partial`, a stage that has not, or such a grid; runtime.reports is the folder of committed
            reports itself.
    """
    from conan_lib.report.build import build_report

    run = Run.open(params_file)
    target, waiting = committed(run.params.tier), record(run)["unfinished"]
    if (project_root() / run.params.runtime.reports / run.params.tier).resolve() == target.resolve():
        raise UserError(f"{run.params_file}: runtime.reports is {below_root(target.parent)}: a run writes elsewhere, and publish copies it")
    if not run.manifests:
        raise UserError(f"{run.params_file}: no stage has finished, so there is nothing to publish")
    if waiting and not partial:
        raise UserError(f"{run.params_file}: {', '.join(waiting)} not finished: finish the run, or give --partial")
    if (lost := _grids(target) - {name for name, one in run.ablations.items() if one.begun}) and not partial:
        parcels = (one.parcel for name, one in run.ablations.items() if name in lost)
        parcel = next((below_root(path) for path in parcels if path), "PARCEL")
        raise UserError(
            f"{run.params_file}: the committed report has grids that are not here, {', '.join(sorted(lost))}: bring their results "
            f"(`conan-lib unpack {parcel}`), run them (`conan-lib run --grid FILE`), or give --partial to lose them"
        )
    source, before = build_report(params_file, compared=False), _verdicts(target)
    drawn = {name for one in run.ablations.values() for name in files_of(one)}  # an earlier run may have left others there
    files = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()]
    files = [file for file in files if file.parts[0] != FOLDER or file.stem in drawn]
    new = [file for file in files if not (target / file).is_file()]
    replaced = [file for file in files if file not in new and not filecmp.cmp(source / file, target / file, shallow=False)]
    for file in (*new, *replaced):
        write(target / file, (source / file).read_bytes())
    stale = [path for path in sorted(target.rglob("*")) if path.is_file() and path.relative_to(target) not in files]
    ours = {file.parts[0] for file in files if len(file.parts) > 1} | {FOLDER}  # another folder is not a report's: a parcel of scores
    removed = [file for path in stale if len((file := path.relative_to(target)).parts) == 1 or file.parts[0] in ours]
    for file in removed:
        (target / file).unlink()
    after = _verdicts(target)
    changed = [f"{id}: {was} -> {after[id]}" for id, was in before.items() if id in after and after[id] != was]
    return Published(target, *(tuple(map(str, some)) for some in (new, replaced, removed)), tuple(changed))


def _grids(folder: Path) -> set[str]:
    """The grids of a report."""
    return {path.stem.removeprefix("ablation_") for path in (folder / FOLDER).glob("*.md")}


def _verdicts(folder: Path) -> dict[str, str]:
    return {id: row["verdict"] for id, row in ledger(folder).items()}
