"""The same checkpoints after whitening (topics/retrieval/whiten.py): what their cosines hide."""

import pandas as pd

from conan_lib.evaluation.checkpoints import checkpoints
from conan_lib.findings.blocks import Block, Missing, Text, table
from conan_lib.findings.intervals import mean_of
from conan_lib.findings.legacy import with_interval
from conan_lib.findings.plots import series
from conan_lib.findings.run import Run
from conan_lib.findings.scores import differences_table, main_rows
from conan_lib.stages import Stage
from conan_lib.topics.retrieval.whiten import SUFFIX, WHITENED

TITLES = {"crosslingual": "R@10 across languages", "retrieval": "nDCG@10 within a language"}


def blocks(run: Run) -> list[Block]:
    """What whitening is, each checkpoint with and without it, and its paired differences."""
    if run.finished("evaluate") and WHITENED not in run.results("evaluate"):
        return [Missing("Whitened checkpoints", f"{run.key('evaluate')} ran with evaluation.whitening_texts: null")]
    return [
        Text(
            "A cosine of pooled states may say little of what they hold: where all texts of a language share a direction, it says the "
            "language. Whitening takes off the mean and the covariance of training texts, without labels or training (Su et al. 2021). The "
            "paper has no such step and no verdict here rests on it; it shows what a checkpoint knew and its cosines hid."
        ),
        table(
            run,
            "whitening",
            "Each checkpoint as it is and whitened, mean over tasks with its 95 % interval. Mean cosine: of texts in different languages. "
            "Variance between languages: the share that lies between the languages' means.",
            ("evaluate",),
            whitening_table,
        ),
        table(
            run,
            "whitening_differences",
            "Each whitened checkpoint against the one before it on the same queries, paired.",
            ("evaluate",),
            lambda stage: differences_table(series(stage, f"{WHITENED}/differences.json")),
            differences=("difference",),
        ),
    ]


def whitening_table(stage: Stage) -> pd.DataFrame:
    """A row for each checkpoint: how much its vectors share, and its scores as it is and whitened."""
    rows = series(stage, "scores.json") + series(stage, f"{WHITENED}/scores.json")
    table = []
    for name in checkpoints(stage):
        shared = stage.results[WHITENED]["shared_directions"][name]
        row = {
            "model": name,
            "mean cosine": None if shared["mean_cosine"] is None else round(shared["mean_cosine"], 3),
            "variance between languages": f"{shared['language_share']:.1%}",
        }
        for kind, title in TITLES.items():
            for how, model in (("as it is", name), ("whitened", f"{name}{SUFFIX}")):
                if own := main_rows(rows, model, kind):
                    value, interval = mean_of(own)
                    low, high = interval or (None, None)
                    row[f"{title}, {how}"] = with_interval({"value": value, "low": low, "high": high})
        table.append(row)
    return pd.DataFrame(table)
