"""The paper's tables with ours beside them: in a column or row of its own, because no set of ours is one of the paper's."""

import pandas as pd

from conan_lib.report import mkqa
from conan_lib.report.blocks import Block, Table, Text
from conan_lib.report.findings import crosslingual
from conan_lib.report.paper import (
    ABLATION,
    ALPHA,
    CATEGORIES,
    CMTEB,
    FAMILIES,
    MTEB_ENGLISH,
    PRACTICAL,
    TRAINING_GAP,
    PaperTable,
)
from conan_lib.report.practical import MINUTES_TEXTS, minutes_of
from conan_lib.report.run import Run
from conan_lib.report.tables import MAIN_METRIC

OURS = "ours"
UNPUBLISHED = "not published"
FAMILY = {
    "ru": "Slavic", "pl": "Slavic", "uk": "Slavic", "de": "Germanic", "nl": "Germanic", "sv": "Germanic", "es": "Romance", "fr": "Romance",
    "it": "Romance", "pt": "Romance", "ro": "Romance", "zh": "Chinese", "ko": "Korean", "ar": "Arabic",
}  # fmt: skip
"""Families of the paper's limitations; every other language is among "others"."""


def paper_blocks(run: Run) -> list[Block]:
    """Every table of the paper, ours beside it; a cell that we do not have says why."""
    return [
        Text(
            "Our model and sets are orders of magnitude smaller than the paper's, and no set is shared: read these tables for shape, "
            "never as a "
            "race. Scores of ours are multiplied by 100 to read like the paper's."
        ),
        _with_row(run, MTEB_ENGLISH, _categories(run)),
        _with_row(run, CMTEB, _absent(CMTEB, "not run: the suite needs a hub (tasks.suite)")),
        *mkqa.blocks(run),
        _families(run),
        _ablation(run),
        _with_column(
            run, TRAINING_GAP, dict.fromkeys(("LoRA, rank 16", "LoRA, rank 32", "LoRA, rank 64"), "not trained: no LoRA arm"), "one arm"
        ),
        _with_column(run, ALPHA, {}, "not compared: one schedule was trained"),
        _with_row(run, PRACTICAL, _practical(run)),
    ]


def _frame(table: PaperTable) -> pd.DataFrame:
    return pd.DataFrame(table.rows, columns=list(table.columns), dtype=object)


def _caption(table: PaperTable) -> str:
    return f"{table.title} ({table.place})." + (f" {table.note}" if table.note else "")


def _with_row(run: Run, table: PaperTable, own: tuple[list, tuple[str, ...]]) -> Table:
    frame = _frame(table)
    row, keys = own
    frame.loc[len(frame)] = [f"{OURS}, {run.params.tier}", *row]
    return Table(f"paper_{table.id}", _caption(table), frame, ("paper", *keys), UNPUBLISHED)


def _with_column(run: Run, table: PaperTable, own: dict[str, object], other: str, name: str = OURS, keys: tuple[str, ...] = ()) -> Table:
    frame = _frame(table)
    frame[name] = [own.get(row, other) for row in frame.iloc[:, 0]]
    return Table(f"paper_{table.id}", _caption(table), frame, ("paper", *keys), UNPUBLISHED)


def _absent(table: PaperTable, why: str) -> tuple[list, tuple[str, ...]]:
    return [why] * (len(table.columns) - 1), ()


def _categories(run: Run) -> tuple[list, tuple[str, ...]]:
    """Mean main metric of the supervised model's local tasks, by the paper's categories."""
    why = run.unfinished("evaluate")
    rows = [row for row in run.scores if row["model"] == "supervised" and row["metric"] == MAIN_METRIC.get(row["type"])]
    means = []
    for category in CATEGORIES:
        values = [row["value"] for row in rows if row["type"] == category]
        means.append(round(100 * sum(values) / len(values), 2) if values else why or "no local task")
    return [*means, "not averaged: other tasks"], (run.key("evaluate"),)


def _recalls(run: Run) -> dict[str, float]:
    return {language: round(100 * row["value"], 1) for language, row in crosslingual(run, "supervised").items()}


def _families(run: Run) -> Table:
    by_family: dict[str, list[float]] = {}
    for language, value in _recalls(run).items():
        by_family.setdefault(FAMILY.get(language, "others"), []).append(value)
    own = {family: round(sum(values) / len(values), 1) for family, values in by_family.items()}
    other = run.unfinished("evaluate") or "no such language in this run"
    return _with_column(run, FAMILIES, own, other, "ours: bible-clr R@10, another task", (run.key("evaluate"),))


def _ablation(run: Run) -> Table:
    """Our two arms in the paper's grid: with CLR and without, mean cross-lingual R@1."""
    mixing = run.file("mix", "mixing.json") or {}
    mask, rule = run.params.weak.soft_mask.attention == "soft", run.params.supervised.dhnm.rule == "v2"
    arms = {
        "with CLR": " + ".join([*["SM"] * mask, "CLR", *["DHNM"] * rule]),
        "without CLR": " + ".join([*["SM"] * mask, *["DHNM"] * rule]),
    }
    own = {row or "none": round(100 * mixing[arm]["mean_r1"]["value"], 2) for arm, row in arms.items() if arm in mixing}
    other = run.unfinished("mix") or "not trained in this tier"
    return _with_column(run, ABLATION, own, other, "ours: mean cross-lingual R@1", (run.key("mix"),))


def _practical(run: Run) -> tuple[list, tuple[str, ...]]:
    row = next((row for row in run.file("efficiency", "speed.json") or [] if row["model"] == "supervised"), None)
    if row is None:
        return [run.unfinished("efficiency") or "not timed"] * 4, ()
    minutes = f"{minutes_of(row):.2f} for {MINUTES_TEXTS:,} of our texts"
    return [round(row["parameters"] / 1e6, 2), row["dim"], minutes, "yes" if row["mrl"] else "no"], (run.key("efficiency"),)
