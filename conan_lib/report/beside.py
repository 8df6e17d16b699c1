"""The paper's tables and ours beside them. Numbers of ours under another protocol stand in a table or column of their own, by name."""

from collections.abc import Iterable

import pandas as pd

from conan_lib.evaluation.metrics import MAIN_METRIC, MEAN, is_main
from conan_lib.report import paper
from conan_lib.report.ablation import Ablation
from conan_lib.report.ablation_blocks import METRIC_NAMES
from conan_lib.report.blocks import Block, Missing, Table, table
from conan_lib.report.paper import CATEGORIES, PaperTable
from conan_lib.report.run import Run
from conan_lib.report.tables import score_table

UNPUBLISHED = "not at hand"
"""What a cell says that the tables of the paper, as far as we hold them, leave open."""
PASSED = "the start passes through"
FAMILY = {
    "ru": "Slavic", "pl": "Slavic", "uk": "Slavic", "de": "Germanic", "nl": "Germanic", "sv": "Germanic", "es": "Romance", "fr": "Romance",
    "it": "Romance", "pt": "Romance", "ro": "Romance", "zh": "Chinese", "ko": "Korean", "ar": "Arabic",
}  # fmt: skip
"""Families of the paper's limitations; every other language is among "others"."""
GRID_ROWS = {
    "ablation": {row[0]: (row[0],) for row in paper.ABLATION.rows},
    "training_gap": {f"LoRA, rank {r}": (f"LoRA r{r}", f"LoRA r{r} + SM") for r in (16, 32, 64)} | {"full": ("full", "full + SM")},
    "alpha": dict(zip((row[0] for row in paper.ALPHA.rows), (("linear",), ("quadratic",), ("inverse quadratic",)), strict=True)),
}
"""Table of the paper -> its row -> the cells of our grid that stand beside it."""


def published(table: PaperTable) -> Table:
    """A table of the paper alone."""
    return _table(table, _frame(table), ("paper",), "the paper")


def data(run: Run) -> list[Block]:
    """What each stage was trained on: the paper's, then ours."""
    caption = f"What each stage had at {run.params.tier}, and how much of it training read."
    return [published(paper.DATA), table(run, "data_ours", caption, ("data",), lambda _: _data(run), origin="ours")]


def mteb(run: Run) -> list[Block]:
    """The paper's main tables; ours by the same categories over local tasks, never in one column with them."""
    own = table(
        run,
        "categories",
        "Mean main metric x 100 of our local tasks, by the paper's categories; a model that lacks a task of a category has no mean. "
        "Other tasks than MTEB's, so read across and down, never against the paper's table.",
        tuple(name for name in ("evaluate", "peers") if run.finished(name)) or ("evaluate",),
        lambda *_: categories(run.scores),
        "no local task",
        origin="ours",
    )
    suite = f"needs a hub: `tasks.suite: {{}}` in a parameter file; this run has `tasks.suite: {run.params.tasks.suite}`"
    return [
        published(paper.MTEB_ENGLISH),
        own,
        published(paper.CMTEB),
        Missing("Our model on MTEB (English, v2) itself", suite.format("MTEB(eng, v2)")),
        Missing("Our model on CMTEB itself", suite.format("MTEB(cmn, v1)")),
    ]


def from_grid(run: Run, table: PaperTable, grid: str) -> list[Block]:
    """A table of the paper, and the cells of one of our grids in its rows: their own scores, in columns of their own.

    Args:
        grid: its name; rows follow GRID_ROWS.
    """
    ablation = run.ablations.get(grid)
    if ablation is None:
        return [
            published(table),
            Missing(f"Our side of it, grid {grid}", f"no readable params/grids/{grid}.yaml names tier {run.params.tier}"),
        ]
    frame, keys = _frame(table), ("paper", ablation.grid.file)
    frame.columns = [frame.columns[0], *(f"the paper: {name}" for name in frame.columns[1:])]
    several = len(next(iter(GRID_ROWS[table.id].values()))) > 1
    for number, end in enumerate((", without soft mask", ", with soft mask") if several else ("",)):
        cells = [GRID_ROWS[table.id][row][number] for row in frame.iloc[:, 0]]
        for metric in (MEAN,) if several else ablation.grid.params.metrics[:2]:
            frame[f"ours: {METRIC_NAMES[metric]}, x 100{end}"] = [_mean(ablation, cell, metric) for cell in cells]
    note = f" Ours: the mean over seeds at this tier, with its 95 % interval; what is not run: `{ablation.grid.command}`."
    return [_table(table, frame, keys, note=note)]


def _mean(ablation: Ablation, cell: str, metric: str) -> str:
    if cell not in ablation.grid.names:
        return "no such cell in our grid"
    one = ablation.mean(cell, metric)
    return f"{100 * one.value:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]" if one else "not run"


def categories(rows: Iterable[dict]) -> pd.DataFrame:
    """Model by category: mean main metric x 100 over the tasks of the category, where a model has them all."""
    rows = list(filter(is_main, rows))
    tasks = {kind: {row["task"] for row in rows if row["type"] == kind} for kind in MAIN_METRIC}
    heads = [*CATEGORIES, *(kind for kind in MAIN_METRIC if kind not in CATEGORIES)]
    table = []
    for model in score_table(rows).columns[3:]:
        line = {"model": model}
        for kind in heads:
            own = [row["value"] for row in rows if (row["model"], row["type"]) == (model, kind) and row["value"] is not None]
            wanted = len(tasks.get(kind, ()))
            name = f"{kind} ({wanted} {'task' if wanted == 1 else 'tasks'})" if wanted else kind
            line[name] = (
                round(100 * sum(own) / wanted, 2) if own and len(own) == wanted else f"{len(own)} of {wanted} tasks" if wanted else None
            )
        table.append(line)
    return pd.DataFrame(table)


def recipe(run: Run) -> list[Block]:
    """The published settings and ours: the same settings, so side by side."""
    frame = _frame(paper.RECIPE)
    frame[run.params.tier] = [_parameter(run, name) for name in frame["setting"]]
    return [_table(paper.RECIPE, frame, ("paper", run.params_file))]


def _parameter(run: Run, path: str) -> object:
    value: object = run.params.model_dump(mode="json")
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return "not set" if value is None else value


def _data(run: Run) -> pd.DataFrame:
    """Stage, kind of data, what there was of it, and what the steps read: steps x batch, a text that is met twice counted twice."""
    p = run.params
    steps, parts = run.results("supervised").get("steps") or {}, run.results("supervised").get("rows") or {}

    def had(stage: str, *names: str, text: str) -> str:
        results = run.results(stage)
        if results.get("passed_through"):
            return PASSED
        missing = [name for name in names if name not in results]
        return run.unfinished(stage) or (f"not recorded: {', '.join(missing)}" if missing else text.format(**results))

    def read(stage: str, number: int | None, unit: str) -> str:
        return run.unfinished(stage) or (PASSED if number is None else f"{number:,} {unit}")

    lines = [
        ("1 pretraining", "books, encyclopedia articles, news and scripture from packages",
         had("pretrain", "block_tokens", text="{block_tokens:,} tokens"),
         read("pretrain", p.pretrain and p.pretrain.max_steps * p.pretrain.batch_size * p.pretrain.max_length, "tokens")),
        ("2 instruction tuning", "instruction, input, output from packages", had("sft", "records", text="{records:,} records"),
         read("sft", p.sft and p.sft.max_steps * p.sft.batch_size, "records")),
        ("3 weakly supervised", f"title-content pairs, the lowest {p.weak.drop_percentile:g} % of the teachers' scores dropped",
         had("weak", "pairs_kept", "pairs", text="{pairs_kept:,} of {pairs:,} pairs"),
         read("weak", p.weak.max_steps * p.weak.batch_size, "pairs")),
        ("4 supervised", ", ".join(f"{task} {n:,}" for task, n in parts.items()) or "five tasks",
         had("supervised", "rows", text=f"{sum(parts.values()):,} records"),
         read("supervised", sum(n * p.supervised.task_batch_size[task] for task, n in steps.items()), "anchors")),
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=["stage", "data", "at hand", "read"])


def _frame(table: PaperTable) -> pd.DataFrame:
    return pd.DataFrame(table.rows, columns=list(table.columns), dtype=object)


def _table(table: PaperTable, frame: pd.DataFrame, keys: tuple[str, ...], origin: str = "", note: str = "") -> Table:
    caption = f"{table.title} ({table.place})." + (f" {table.note}" if table.note else "") + note
    return Table(f"paper_{table.id}", caption, frame, keys, UNPUBLISHED, origin=origin)
