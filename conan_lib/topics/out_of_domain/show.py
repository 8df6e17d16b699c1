"""The report's section on sets that nothing was trained on: the same tables as for our own tasks, and who wins."""

import pandas as pd

from conan_lib.evaluation.bigbench import HOW_TO_GET
from conan_lib.evaluation.checkpoints import MODELS as CHECKPOINTS
from conan_lib.evaluation.metrics import is_main
from conan_lib.evaluation.scores import read_items
from conan_lib.files import read_json
from conan_lib.findings.blocks import Figure, Missing, Table
from conan_lib.findings.plots import PALETTE, Drawing, style
from conan_lib.findings.run import STATUS, Run
from conan_lib.findings.scores import METRIC_NAMES, MODELS, crosslingual_table, in_order, notes_table, score_table
from conan_lib.stages import Stage, open_stage, project_root
from conan_lib.table import START

SQUAD = "squad-shifts"


def show(run: Run) -> dict:
    """Tables of stage out_of_domain, or what is missing and how to get it."""
    stage = open_stage("out_of_domain", run.params)
    key = f"out_of_domain/{stage.key}"
    if not stage.finished:
        command = f"`conan-lib train out_of_domain {run.params_file}`"
        there = (project_root() / run.params.out_of_domain.archive).is_file()
        how = command if there else f"it needs {run.params.out_of_domain.archive} (evaluation only): {HOW_TO_GET}, then {command}"
        return {
            "sets": {},
            "tables": Missing("Retrieval and classification out of domain.", f"stage out_of_domain {STATUS[stage.status]} ({key}): {how}"),
        }
    rows = read_json(stage.path / "scores.json")

    def shown(id: str, caption: str, frame: pd.DataFrame) -> Table:
        return Table(id, caption, frame, (key,))

    return {
        "sets": stage.results["sets"],
        "max_length": stage.tasks.max_length,
        "tables": [
            Figure(
                "out_of_domain",
                "Each task out of domain; lines are 95 % intervals.",
                dots(rows),
                (key,),
                takeaway=winners(rows),
                numbers={"out_of_domain": {}},
            ),
            shown("out_of_domain", "Main metric of every task out of domain, with its 95 % bootstrap interval.", score_table(rows)),
            shown(
                "out_of_domain_domains",
                f"nDCG@10 of {SQUAD} by domain of the question; Wikipedia is among what was trained on.",
                by_domain(stage),
            ),
            shown("out_of_domain_languages", "R@10 of multiemo-clr by language of the review.", crosslingual_table(rows)),
            shown("out_of_domain_notes", "What the evaluation notes about its cells.", notes_table(rows)),
        ],
    }


def dots(rows: list[dict]) -> Drawing:
    """The main metric of every task by system, with its interval, a panel for each task."""
    rows = [row for row in rows if is_main(row) and row["value"] is not None]
    tasks, models = list(dict.fromkeys(row["task"] for row in rows)), in_order(row["model"] for row in rows)
    with style():
        drawing = Drawing(figsize=(2.6 * len(tasks) + 1.4, 0.24 * len(models) + 0.9))
        for axis, task in zip(drawing.subplots(1, len(tasks), sharey=True, squeeze=False)[0], tasks, strict=True):
            for row in (row for row in rows if row["task"] == task):
                place, colour = models.index(row["model"]), PALETTE[row["model"] not in (START, *CHECKPOINTS)]
                if row["low"] is not None:
                    axis.hlines(place, row["low"], row["high"], color=colour)
                axis.plot(row["value"], place, "o", color=colour)
            axis.set(title=task, xlabel=METRIC_NAMES[row["type"]], xlim=(0, 1))
            axis.set_yticks(range(len(models)), models)
            axis.set_ylim(len(models) - 0.5, -0.5)
        return drawing


def winners(rows: list[dict]) -> str:
    """Which system is best on each task, and on how many our last checkpoint is."""
    best: dict[str, dict] = {}
    for row in rows:
        if is_main(row) and row["value"] is not None and row["value"] > best.get(row["task"], {"value": -1})["value"]:
            best[row["task"]] = row
    ours = sum(row["model"] in (START, *CHECKPOINTS) for row in best.values())
    named = ", ".join(f"{task}: {row['model']} {row['value']:.3f}" for task, row in best.items())
    verdict = f"The peers win on all {len(best)} tasks" if not ours else f"The peers win on {len(best) - ours} of {len(best)} tasks"
    return f"{verdict}. Best on each: {named}."


def by_domain(stage: Stage) -> pd.DataFrame:
    """Mean nDCG@10 over the questions of each domain, model by domain; the domain stands before the slash of a question's id."""
    table = []
    for folder in sorted((stage.path / "items").iterdir(), key=lambda folder: MODELS.index(folder.name)):
        items = read_items(stage.path, folder.name, SQUAD).get("default")
        if items:
            values = pd.Series(items["ndcg_at_10"]).groupby([item.split("/")[0] for item in items["ids"]])
            table.append({"model": folder.name, **values.mean().to_dict(), "questions": len(items["ids"])})
    return pd.DataFrame(table)
