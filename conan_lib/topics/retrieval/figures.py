"""Cross-lingual retrieval of our checkpoints and the peers, drawn."""

from collections.abc import Callable
from itertools import cycle

import numpy as np

from conan_lib.errors import UserError
from conan_lib.evaluation.checkpoints import checkpoints as trained
from conan_lib.evaluation.metrics import MEAN
from conan_lib.findings.plots import INK, MARKERS, PALETTE, PAPER, Drawing, series, style
from conan_lib.stages import Stage
from conan_lib.topics.retrieval.whiten import SUFFIX, WHITENED

METRICS = {"recall_at_10": "R@10", "recall_at_1": "R@1", "ndcg_at_10": "nDCG@10"}


SERIES = ("random", "start", "pretrained", "weak", "supervised")
"""Checkpoints that the figure by language shows; the others lie on top of their neighbours."""


def checkpoints(stage: Stage, peers: Stage | None = None, metric: str = "recall_at_10") -> Drawing:
    """Cross-lingual retrieval after each stage of training, the mean of the languages with its 95 % interval, as it is and, where that was
    measured, whitened; peers as lines, as they are.

    Args:
        stage: evaluate.
        peers: drawn where finished.
    """
    groups = {"as it is": series(stage, "scores.json")}
    if WHITENED in stage.results:
        groups[WHITENED] = [row | {"model": row["model"].removesuffix(SUFFIX)} for row in series(stage, f"{WHITENED}/scores.json")]
    groups = {
        how: {row["model"]: row for row in _crosslingual(stage, metric, rows) if row["subset"] == MEAN} for how, rows in groups.items()
    }
    names = [name for name in trained(stage) if name in groups["as it is"]]
    lines = _peer_rows(peers, metric, lambda row: row["subset"] == MEAN)
    width = 0.84 / len(groups)
    with style():
        drawing = Drawing(figsize=(7.6, 3.5))
        axis = drawing.subplots()
        for number, (how, rows) in enumerate(groups.items()):
            values = np.array([rows[name]["value"] for name in names])
            errors = np.abs(np.array([[rows[name]["low"], rows[name]["high"]] for name in names]).T - values)
            places = np.arange(len(names)) + width * (number - (len(groups) - 1) / 2)
            bars = axis.bar(places, values, 0.92 * width, yerr=errors, color=PALETTE[0], alpha=0.4 if number else 1, ecolor=INK, capsize=3)
            clear = {"boxstyle": "round,pad=0.1", "facecolor": PAPER, "edgecolor": "none"}  # peers' lines pass behind a label
            axis.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, weight="normal" if number else "bold", bbox=clear)
            bars.set_label(how)
        for colour, dashes, row in zip(cycle(PALETTE[1:]), cycle(("-", "--", ":", "-.")), lines, strict=False):
            label = f"{row['model']} {row['value']:.2f} (n = {row['n']:,})"
            axis.axhline(row["value"], color=colour, linestyle=dashes, label=label)
        top = max(row["high"] or row["value"] for row in [*lines, *(row for rows in groups.values() for row in rows.values())])
        axis.set_xticks(range(len(names)), names)
        axis.set(ylabel=f"cross-lingual {METRICS[metric]}", ylim=(0, min(1.0, 1.1 * top) or 1))
        axis.set_title(f"mean of {_languages(stage, metric)} languages, n = {groups['as it is'][names[0]]['n']:,} queries")
        axis.grid(axis="x", visible=False)
        if len(groups) > 1 or lines:
            drawing.legend(loc="outside right upper")
        return drawing


def languages(stage: Stage, peers: Stage | None = None, metric: str = "recall_at_10") -> Drawing:
    """Cross-lingual retrieval by language of the query: checkpoints and peers side by side, with 95 % intervals for the last checkpoint."""
    rows = [row for row in [*_crosslingual(stage, metric), *_peer_rows(peers, metric)] if row["subset"] != MEAN]
    last = {row["subset"]: row for row in rows if row["model"] == "supervised"}
    order = sorted(last, key=lambda language: -last[language]["value"])
    named = list(dict.fromkeys(row["model"] for row in rows))
    own_models = [name for name in named if name in SERIES]
    models = own_models + [name for name in named if name not in (*SERIES, "sft", "supervised_no_clr") and SUFFIX not in name]
    with style():
        drawing = Drawing(figsize=(max(6.5, 0.75 * len(order) + 2.4), 3.5))
        axis = drawing.subplots()
        places = np.arange(len(order))
        for number, model in enumerate(models):
            own = {row["subset"]: row["value"] for row in rows if row["model"] == model}
            shift = 0.7 * ((number + 0.5) / len(models) - 0.5)
            marker = MARKERS[(number + number // len(PALETTE)) % len(MARKERS)]  # where colours come again, markers are others
            axis.plot(places + shift, [own.get(language, np.nan) for language in order], marker, label=model,
                      color=PALETTE[number % len(PALETTE)], markersize=6, alpha=0.9)  # fmt: skip
            if model == "supervised":
                bounds = [[last[language][end] for language in order] for end in ("low", "high")]
                axis.vlines(places + shift, *bounds, color=PALETTE[number % len(PALETTE)])
        axis.set_xticks(places, [f"{language} → {_pivot(stage)}" for language in order], rotation=0 if len(order) < 10 else 45)
        axis.set(ylabel=METRICS[metric], ylim=(0, 1.03))
        axis.set_title("cross-lingual retrieval by language of the query")
        drawing.legend(loc="outside right upper")
        return drawing


def _crosslingual(stage: Stage, metric: str, rows: list[dict] | None = None) -> list[dict]:
    """Cross-lingual rows of a metric, of scores.json where no rows are given."""
    rows = [
        row for row in (series(stage, "scores.json") if rows is None else rows) if row["type"] == "crosslingual" and row["metric"] == metric
    ]
    if not rows:
        raise UserError(f"{stage.path / 'scores.json'}: no cross-lingual {metric}; it is measured on the embedded tasks only")
    return rows


def _peer_rows(peers: Stage | None, metric: str, keep: Callable[[dict], bool] = lambda row: True) -> list[dict]:
    """Measured cross-lingual rows of the peers; none where the stage has not finished."""
    if peers is None or not peers.finished:
        return []
    rows = [row for row in series(peers, "scores.json") if row["type"] == "crosslingual" and row["metric"] == metric]
    return [row for row in rows if row["value"] is not None and keep(row)]


def _languages(stage: Stage, metric: str) -> int:
    return len({row["subset"] for row in _crosslingual(stage, metric)} - {MEAN})


def _pivot(stage: Stage) -> str:
    return stage.params.data.languages[0]
