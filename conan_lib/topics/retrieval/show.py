"""The paper's main tables beside ours, and what each stage of training added: scores, languages, differences, whitening, seeds."""

from collections.abc import Iterable
from itertools import pairwise

import pandas as pd

from conan_lib.errors import UserError
from conan_lib.evaluation.checkpoints import checkpoints
from conan_lib.evaluation.metrics import MAIN_METRIC, MEAN, is_main
from conan_lib.evaluation.scores import compare, read_items
from conan_lib.findings.blocks import Block, Missing, Table, evaluated, scored, table
from conan_lib.findings.intervals import Interval, combine_seeds, mean_of
from conan_lib.findings.plots import series
from conan_lib.findings.published import published
from conan_lib.findings.run import SCORES, Run
from conan_lib.findings.scores import (
    best_and_worst,
    crosslingual,
    crosslingual_table,
    differences_table,
    in_order,
    main_rows,
    notes_table,
    score_table,
)
from conan_lib.findings.tables import measured
from conan_lib.params.load import SEEDED
from conan_lib.stages import Stage, project_root
from conan_lib.topics.retrieval import figures
from conan_lib.topics.retrieval.whiten import KINDS, SUFFIX, WHITENED

CATEGORIES = ("classification", "clustering", "reranking", "retrieval", "sts", "crosslingual")
"""Types of task in the order of the paper's categories; its pair classification and summarisation have no local task."""
MEANS = {"R@10 across languages": "crosslingual", "nDCG@10 within a language": "retrieval"}
"""Name of a mean over tasks -> their type."""


def show(run: Run) -> dict:
    """The table of all tasks, then what each stage of training added."""
    suite = f"needs a hub: `tasks.suite: {{}}` in a parameter file; this run has `tasks.suite: {run.params.tasks.suite}`"
    return {
        "english": _paper("mteb_eng_v2"),
        "categories": table(
            run,
            "categories",
            "Mean main metric x 100 of our local tasks, by the paper's categories as far as there are tasks; a model that lacks a task of "
            "a category has no mean. Other tasks than MTEB's, so read across and down, never against the paper's table.",
            tuple(name for name in SCORES if run.finished(name)) or ("evaluate",),
            lambda *_: categories(run.scores),
            "not every task",
            origin="ours",
            decimals=2,
        ),
        "chinese": _paper("cmteb"),
        "suites": [
            Missing("Our model on MTEB (English, v2) itself", suite.format("MTEB(eng, v2)")),
            Missing("Our model on CMTEB itself", suite.format("MTEB(cmn, v1)")),
        ],
        "scores": scored(run, "scores", "Main metric of every task.", score_table),
        "notes": scored(run, "score_notes", "What the evaluation notes about its cells.", notes_table),
        "figures": [
            evaluated(
                run,
                "checkpoints",
                "Cross-lingual R@10 of each checkpoint, as it is and whitened; lines: peers, as they are.",
                figures.checkpoints,
                lambda *_: _stages_in_words(run),
                {"crosslingual": {}, "whitening": {}},
            ),
            evaluated(
                run,
                "languages",
                "Cross-lingual R@10 by language of the query.",
                figures.languages,
                lambda *_: best_and_worst({lang: row["value"] for lang, row in crosslingual(run, "supervised").items()}, "R@10"),
                {"crosslingual": {"model": "supervised"}},
            ),
        ],
        "crosslingual": scored(
            run, "crosslingual", "Cross-lingual R@10 by query language, mean with its 95 % bootstrap interval.", crosslingual_table
        ),
        "differences": table(
            run,
            "differences",
            "Each checkpoint against the one before it on the same queries, paired.",
            ("evaluate",),
            lambda stage: differences_table(series(stage, "differences.json")),
            differences=("difference",),
        ),
        "peers": table(
            run,
            "peer_differences",
            "Our last checkpoint against each peer, on the queries that both answered, paired.",
            ("evaluate", "peers"),
            against_table,
            differences=("difference",),
        ),
        "plain": _plain(run),
        "whitening": _whitening(run),
        "seeds": _seeds(run),
        "reseeded": _reseeded(run.with_seeds("evaluate")),
    }


def _stages_in_words(run: Run) -> str:
    """R@10 from the start to the last checkpoint, and which stage made the largest step."""
    found = {row["model"]: row["value"] for row in run.scores if row["type"] == "crosslingual" and row["subset"] == MEAN and is_main(row)}
    own = [name for name in (run.untrained[0], "pretrained", "sft", "weak", "supervised") if found.get(name) is not None]
    if len(own) < 2:
        return ""
    steps = {after: found[after] - found[before] for before, after in pairwise(own)}
    last = max(steps, key=steps.get)
    return f"R@10 goes from {found[own[0]]:.2f} to {found[own[-1]]:.2f}; stage {last} makes the largest step, {steps[last]:+.2f}."


def _paper(id: str) -> Table:
    paper = published()[id]
    return Table(f"paper_{id}", paper.caption, paper.frame, ("paper",), "not reported", origin="the paper")


def categories(rows: Iterable[dict]) -> pd.DataFrame:
    """Model by category: mean main metric x 100 over the tasks of the category, where a model has them all."""
    rows = list(filter(is_main, rows))
    tasks = {kind: {row["task"] for row in rows if row["type"] == kind} for kind in MAIN_METRIC}
    table = []
    for model in in_order(row["model"] for row in rows):
        line: dict = {"model": model}
        for kind in sorted(filter(tasks.get, MAIN_METRIC), key=CATEGORIES.index):
            own = [row["value"] for row in rows if (row["model"], row["type"]) == (model, kind) and row["value"] is not None]
            wanted = len(tasks[kind])
            name = f"{kind} ({wanted} {'task' if wanted == 1 else 'tasks'})"
            line[name] = 100 * sum(own) / wanted if len(own) == wanted else None
        table.append(line)
    return pd.DataFrame(table)


def _plain(run: Run) -> list[Block]:
    """What the recipe adds to training by sentence-transformers alone, where somebody asked for that."""
    if not run.finished("evaluate", "score_plain"):
        return []
    plain = run.params.plain
    return [
        table(
            run,
            "plain_differences",
            f"Our last checkpoint against `plain`, on the same queries, paired. plain: the same start, rows and steps{_seen(run)}, "
            f"{plain.rate:g} times our rates, under sentence-transformers' own trainer with MultipleNegativesRankingLoss, "
            f"{plain.attention}, hard negatives as mined, no Matryoshka.",
            ("evaluate", "score_plain"),
            against_table,
            differences=("difference",),
        )
    ]


def _seen(run: Run) -> str:
    """How many of the rows its steps saw, where the stage has counted them: rows that share a text come to smaller batches."""
    counted = [part for part in map(run.results("plain").get, ("weak", "supervised")) if part and "seen" in part]
    given, seen = (sum(sum(part[name].values()) for part in counted) for name in ("rows", "seen"))
    why = "" if run.params.plain.duplicates else ", since its batches hold no text twice"
    return f" (of the rows it saw {seen / given:.0%}{why})" if given else ""


def against_table(ours: Stage, theirs: Stage) -> pd.DataFrame:
    """`supervised` minus each model of another stage, on every task that ranks of which both kept the value of each query.

    Raises:
        UserError: there is no such task.
    """
    rows = [row for row in series(theirs, "scores.json") if row["type"] in KINDS and is_main(row) and row["value"] is not None]
    rows = [row for row in rows if read_items(theirs.path, row["model"], row["task"]) and read_items(ours.path, "supervised", row["task"])]
    if not rows:
        raise UserError(f"{theirs.path}: no values of single queries that both answered")
    return differences_table(
        compare((theirs.path, ours.path), row["model"], "supervised", row["task"], MAIN_METRIC[row["type"]], ours.tasks) for row in rows
    )


def _whitening(run: Run) -> list[Block]:
    """Each checkpoint with and without whitening, and its paired differences."""
    if run.finished("evaluate") and WHITENED not in run.results("evaluate"):
        return [Missing("Whitened checkpoints", f"{run.key('evaluate')} ran with evaluation.whitening_texts: null")]
    return [
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
        row = {"model": name, "mean cosine": shared["mean_cosine"], "variance between languages": shared["language_share"]}
        for title, kind in MEANS.items():
            for how, model in (("as it is", name), ("whitened", f"{name}{SUFFIX}")):
                if own := main_rows(rows, model, kind):
                    row |= _number(f"{title}, {how}", *mean_of(own))
        table.append(row)
    return pd.DataFrame(table)


def _seeds(run: Run) -> Block:
    """Each checkpoint over the seeds that have run; with one seed, what would run more."""
    runs = run.with_seeds("evaluate")
    if len(runs) < 2:
        job = project_root() / "params" / "jobs" / f"{run.params.tier}.yaml"
        command = f"`conan-lib job params/jobs/{job.name}`" if job.is_file() else "a job whose step has `seeds`"
        return Missing("The same run with other seeds", f"not run: {command}")
    caption = "Each checkpoint over seeds, and with each of them."
    return Table("seeds", caption, seeds_table(runs), tuple(one.key("evaluate") for one in runs))


def _reseeded(runs: list[Run]) -> list[str]:
    """Stages whose seeds differ between runs."""
    trained = [name for name in SEEDED["all"] if all(getattr(run.params, name) is not None for run in runs)]
    return [name for name in trained if len({getattr(run.params, name).seed for run in runs}) > 1]


def seeds_table(runs: list[Run]) -> pd.DataFrame:
    """A row for each checkpoint and score: the mean over the runs' seeds with its interval, then the number with each seed."""
    table = []
    for model in checkpoints(runs[0].stages["evaluate"]):
        for title, kind in MEANS.items():
            for how, suffix in (("", ""), (", whitened", SUFFIX)):
                files = [one.file("evaluate", f"{WHITENED}/scores.json" if suffix else "scores.json") or [] for one in runs]
                found = [mean_of(own) for rows in files if (own := main_rows(rows, f"{model}{suffix}", kind))]
                if len(found) == len(runs):
                    values, intervals = zip(*found, strict=True)
                    mean = combine_seeds(values, intervals) if all(intervals) else (sum(values) / len(values), None)
                    seeds = {f"seed {one.params.supervised.seed}": value for one, value in zip(runs, values, strict=True)}
                    table.append({"model": model, "score": f"{title}{how}"} | _number("mean", *mean) | seeds)
    return pd.DataFrame(table)


def _number(name: str, value: float, interval: Interval | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return measured(name, {"value": value, "low": low, "high": high})
