"""The same run with several seeds (params.with_seed): what a number comes to over them, from the seeds' result files."""

import pandas as pd

from conan_lib.evaluation.checkpoints import checkpoints
from conan_lib.findings.blocks import Block, Missing, Table, Text
from conan_lib.findings.intervals import combine_seeds, mean_of
from conan_lib.findings.legacy import with_interval
from conan_lib.findings.run import Run
from conan_lib.findings.scores import main_rows
from conan_lib.params.load import SEEDED
from conan_lib.stages import project_root
from conan_lib.topics.retrieval.whiten import SUFFIX, WHITENED

SHOWN = {
    "R@10 across languages": ("crosslingual", ""),
    "R@10 across languages, whitened": ("crosslingual", SUFFIX),
    "nDCG@10 within a language": ("retrieval", ""),
}
"""Columns of the table: what the main metric of a type of task is called there, and of which vectors it is."""


def blocks(run: Run) -> list[Block]:
    """Each checkpoint over the seeds that have run; with one seed, what would run more."""
    runs = run.with_seeds("evaluate")
    if len(runs) < 2:
        job = project_root() / "params" / "jobs" / f"{run.params.tier}.yaml"
        command = f"`conan-lib job params/jobs/{job.name}`" if job.is_file() else "a job whose step has `seeds`"
        return [Missing("The same run with other seeds", f"not run: {command}")]
    text = (
        f"The same run with {len(runs)} seeds of {', '.join(_reseeded(runs))}; all else is the same. A bracket is the 95 % interval of the "
        "mean over seeds: the half-widths of the queries and of the seeds (Student's t), in quadrature."
    )
    caption = "Each checkpoint over seeds, and with each of them."
    return [Text(text), Table("seeds", caption, seeds_table(runs), tuple(one.key("evaluate") for one in runs))]


def _reseeded(runs: list[Run]) -> list[str]:
    """Stages whose seeds differ between runs."""
    return [name for name in SEEDED["all"] if len({getattr(run.params, name).seed for run in runs}) > 1]


def seeds_table(runs: list[Run]) -> pd.DataFrame:
    """Checkpoint by column: mean over seeds with its interval, then the number with each seed."""
    return pd.DataFrame([{"model": model} | _row(runs, model) for model in checkpoints(runs[0].stages["evaluate"])])


def _row(runs: list[Run], model: str) -> dict[str, str]:
    row = {}
    for title, (kind, suffix) in SHOWN.items():
        found = [mean_of(own) for run in runs if (own := main_rows(_rows(run, suffix), f"{model}{suffix}", kind))]
        if len(found) < len(runs):
            continue
        if all(interval for _, interval in found):
            mean, (low, high) = combine_seeds([value for value, _ in found], [interval for _, interval in found])
            row[title] = with_interval({"value": mean, "low": low, "high": high})
        row[f"{title}, each seed"] = " ".join(f"{value:.3f}" for value, _ in found)
    return row


def _rows(run: Run, suffix: str) -> list[dict]:
    return run.file("evaluate", f"{WHITENED}/scores.json" if suffix else "scores.json") or []
