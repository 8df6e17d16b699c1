"""Two runs side by side: claims, first-screen numbers, scores of every stage by task, and the parameters that differ.

Scores are paired where both runs answered the same queries of the same set: the difference, second minus first, then has a 95 % interval
over them. What one run lacks says why.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from conan_lib.errors import UserError
from conan_lib.evaluation.metrics import MAIN_METRIC, is_main
from conan_lib.evaluation.statistics import paired_difference
from conan_lib.files import read_json
from conan_lib.findings.blocks import Block, Missing, Table, Text
from conan_lib.findings.files import write
from conan_lib.findings.manifests import parameters_table, stages_block
from conan_lib.findings.run import Run
from conan_lib.findings.tables import measured, to_csv
from conan_lib.report.citations import Citations
from conan_lib.report.headline import tiles
from conan_lib.report.render import template
from conan_lib.report.sections import Section
from conan_lib.stages import project_root
from conan_lib.topics import judge

NUMBERS = ("claims that point the paper's way", "headline score", "bits per byte", "time")
"""What the tiles of the first screen say, in their order."""


def compare(first: str | Path, second: str | Path) -> Path:
    """Write runs/compare/<first>-<second>/ (report.md, index.html, tables/).

    Args:
        first, second: parameter files.

    Returns:
        The folder.

    Raises:
        UserError: an unknown file, twice the same run, or a run of which no stage has finished.
    """
    runs = {Path(file).stem: Run.open(file) for file in (first, second)}
    if len(runs) < 2:
        raise UserError(f"{Path(first).name} twice: a comparison needs two parameter files of different names")
    for name, run in runs.items():
        if not run.manifests:
            raise UserError(f"{run.params_file}: no stage of {name} has finished: run conan-lib run {run.params_file} first")
    if len({tuple(map(run.key, run.stages)) for run in runs.values()}) < 2:
        raise UserError(f"{' and '.join(runs)} are the same run: all their stages have the same keys")
    folder = project_root() / next(iter(runs.values())).params.runtime.reports / "compare" / "-".join(runs)
    parts = sections(runs)
    context = {"names": list(runs), "runs": runs, "sections": parts, "cite": Citations(parts, ()), "unfinished": _unfinished(runs)}
    tables = [block for part in parts for block in part.blocks if isinstance(block, Table)]
    written = [write(folder / table.file, to_csv(table)) for table in tables]
    write(folder / "report.md", template("compare.md.j2", html=False).render(context))
    write(folder / "index.html", template("compare.html.j2", html=True).render(context))
    for path in (folder / "tables").glob("*"):
        if path not in written:
            path.unlink()
    return folder


def sections(runs: dict[str, Run]) -> list[Section]:
    """What the comparison is made of.

    Args:
        runs: name -> run, two of them.
    """
    return [
        Section("claims", "Verdicts", (_claims(runs),)),
        Section("headline", "First-screen numbers", (Table("headline", "What each run comes to.", _headline(runs), ("manifests",)),)),
        Section("scores", "Scores of every stage, by task", tuple(_scores(runs))),
        Section("parameters", "Parameters that differ", (_parameters(runs),)),
        Section("run", "Stages and artefacts", tuple(_stages(runs))),
    ]


def _keys(runs: dict[str, Run], stage: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(run.key(stage) for run in runs.values() if run.finished(stage))) or ("manifests",)


def _unfinished(runs: dict[str, Run]) -> list[str]:
    lacking = {name: [stage for stage in run.stages if not run.finished(stage)] for name, run in runs.items()}
    return [f"{name}: {', '.join(stages)} not finished" for name, stages in lacking.items() if stages]


def _claims(runs: dict[str, Run]) -> Table:
    rows: dict[str, dict] = {}
    for name, run in runs.items():
        for claim, finding in judge(run):
            row = rows.setdefault(claim.id, {"id": claim.id, "claim": claim.name})
            low, high = finding.interval or (None, None)
            row[f"{name}: verdict"] = finding.verdict
            row |= measured(f"{name}: effect", {"value": finding.effect, "low": low, "high": high})
            row |= {f"{name}: unit or reason": finding.unit or finding.reason, f"{name}: from": finding.keys}
    frame = pd.DataFrame(list(rows.values()))
    missing = {f"{name}: from": "nothing to cite" for name in runs}
    keys = tuple(f"{name}: from" for name in runs)
    return Table("claims", "Each claim in both runs.", frame, _keys(runs, "evaluate"), missing, keys=keys)


def _headline(runs: dict[str, Run]) -> pd.DataFrame:
    columns = {name: tiles(run, [finding for _, finding in judge(run)]) for name, run in runs.items()}
    cells = {name: [f"{tile.value} ({tile.label})" for tile in own] for name, own in columns.items()}
    return pd.DataFrame({"number": NUMBERS, **cells})


def _scores(runs: dict[str, Run]) -> Iterator[Block]:
    if why := [f"{name}: {run.unfinished('evaluate')}" for name, run in runs.items() if not run.finished("evaluate")]:
        yield Missing("Scores of both runs", "; ".join(why))
        return
    yield Text(
        "Main metric of each task. A difference is the second run minus the first, paired over the queries that both answered, one seed "
        "each; its interval says nothing about another seed."
    )
    minus = " minus ".join(reversed(runs))
    missing = dict.fromkeys(runs, "no such task, or not measured") | {minus: "not measured in both", "queries": "not paired"}
    caption = "Scores of every stage by task, and their paired difference."
    yield Table("scores", caption, scores_table(runs), _keys(runs, "evaluate"), missing, differences=(minus,))


def scores_table(runs: dict[str, Run]) -> pd.DataFrame:
    """Task and model by run; the difference has an interval where both runs kept values of the same items."""
    (a, first), (b, second) = runs.items()
    found = {name: {(row["model"], row["type"], row["task"]): row for row in run.scores if is_main(row)} for name, run in runs.items()}
    rows = []
    for model, kind, task in sorted({*found[a], *found[b]}, key=lambda which: (list(MAIN_METRIC).index(which[1]), which[2], which[0])):
        row = {"type": kind, "task": task, "model": model}
        both = [found[name].get((model, kind, task)) for name in runs]
        for name, one in zip(runs, both, strict=True):
            row |= measured(name, one)
        row |= _difference(f"{b} minus {a}", first, second, model, task, both)
        rows.append(row)
    return pd.DataFrame(rows, dtype=object)  # numbers of queries stay integers


def _difference(name: str, first: Run, second: Run, model: str, task: str, rows: list[dict | None]) -> dict:
    """Columns of the difference: its interval, the queries that it is paired over, and what else is to be said of the pairing."""
    if any(row is None or row["value"] is None for row in rows):
        return measured(name, None) | {"queries": None, "pairing": "not measured in both"}
    metric, gap = rows[0]["metric"], rows[1]["value"] - rows[0]["value"]
    if not _same_set(first, second, task):
        return measured(name, {"value": gap}) | {"queries": None, "pairing": "the runs' sets differ"}
    items = [_items(run, row["key"], model, task, metric) for run, row in zip((first, second), rows, strict=True)]
    shared = sorted(set(items[0]) & set(items[1]), key=str)
    if not shared:
        return measured(name, {"value": gap}) | {"queries": None, "pairing": "no values of single queries in both"}
    most = max(map(len, items))
    clusters = [items[0][item][1] for item in shared]
    values = ([column[item][0] for item in shared] for column in items)
    one = paired_difference(*values, first.params.tasks.bootstrap, first.params.tasks.seed, clusters)
    pairing = "all queries" if len(shared) == most else f"of {most:,}"
    return measured(name, one, value="difference") | {"queries": len(shared), "pairing": pairing}


def _same_set(first: Run, second: Run, task: str) -> bool:
    """Whether a task's queries and candidates are the same in both runs, by their digests: a parcel of results has no texts."""
    splits = [run.params.tasks.split for run in (first, second)]
    if first.key("heldout") == second.key("heldout"):
        return splits[0] == splits[1]
    files = [run.manifests.get("heldout", {}).get("files", {}) for run in (first, second)]
    starts = [f"eval/{split}/{task}/" for split in splits]
    own = [
        {name.removeprefix(start): one for name, one in some.items() if name.startswith(start)}
        for some, start in zip(files, starts, strict=True)
    ]
    return bool(own[0]) and own[0] == own[1]


def _items(run: Run, key: str, model: str, task: str, metric: str) -> dict[tuple, tuple]:
    """(subset, id) -> (value, cluster) of single items; empty where the stage kept none of this metric."""
    found = {}
    for path in sorted((project_root() / run.params.runtime.artefacts / key / "items" / model / task).glob("*.json")):
        one = read_json(path)
        if metric in one:
            clusters = one["clusters"] or [f"{path.stem}/{item}" for item in one["ids"]]
            rows = zip(one["ids"], one[metric], clusters, strict=True)
            found |= {(path.stem, item): (value, cluster) for item, value, cluster in rows}
    return found


def _parameters(runs: dict[str, Run]) -> Block:
    columns = {}
    for name, run in runs.items():
        columns[name] = dict(parameters_table(run.stages.values()).itertuples(index=False))
    a, b = columns.values()
    names = [name for name in {**a, **b} if a.get(name, ...) != b.get(name, ...)]
    if not names:
        return Missing("Different parameters", "none that a stage's key hashes; the artefacts differ by stage versions")
    rows = [(name, *(column.get(name, "not set") for column in columns.values())) for name in names]
    files = tuple(run.params_file for run in runs.values())
    return Table("parameters", "Parameters that differ.", pd.DataFrame(rows, columns=["parameter", *columns], dtype=object), files, "none")


def _stages(runs: dict[str, Run]) -> Iterator[Block]:
    for name, run in runs.items():
        yield stages_block(f"stages_{name}", f"Stages of {name}.", run)
