"""From mteb's results to the rows of scores.json: one number, how many items it rests on, and its interval."""

import logging
import warnings
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

import datasets
import mteb
from sklearn.exceptions import UndefinedMetricWarning
from tqdm.auto import tqdm

from conan_lib.data.declared.hub import HUB_ERRORS
from conan_lib.errors import UserError
from conan_lib.evaluation.metrics import MEAN, METRICS
from conan_lib.evaluation.statistics import bootstrap_interval, paired_difference, spearman_interval
from conan_lib.evaluation.tasks import language_of
from conan_lib.files import first_damaged, read_json, write_json
from conan_lib.params.evaluation import TasksParams


def score(model, tasks: Iterable, folder: Path, params: TasksParams, batch_size: int, note: str | None = None) -> list[dict]:
    """Run a model on tasks through mteb and return its rows.

    A finished (model, task) is read from mteb's result files below folder/mteb, not computed again.

    Args:
        model: an mteb encoder or search model with `mteb_model_meta`; the part of its name after the slash is the row's `model`.
        tasks: local tasks or those of a suite.
        folder: the stage's folder.
        note: said in every row.

    Raises:
        UserError: a data set of a suite does not come from the hub.

    Returns:
        Rows {model, task, type, subset, metric, value, n, low, high, note}; low and high are null where mteb has no value of single items.
    """
    name = model.mteb_model_meta.name.split("/")[-1]
    while damaged := first_damaged(folder / "mteb"):  # mteb writes in place, so a killed process leaves a part of a file
        damaged.unlink()
    cache = mteb.ResultCache(folder / "mteb")
    rows = []
    for task in tasks:
        if task.kind is not None:
            task.items = folder / "items" / name
        try:
            with _quiet():
                results = mteb.evaluate(
                    model,
                    task,
                    cache=cache,
                    overwrite_strategy="only-missing",
                    encode_kwargs={"batch_size": batch_size, "show_progress_bar": False},
                    show_progress_bar=False,
                    co2_tracker=False,
                )
        except HUB_ERRORS as error:
            if task.kind is not None:
                raise
            raise UserError(
                f"tasks.suite: {task.metadata.name}: the hub gave no {task.metadata.dataset['path']} ({type(error).__name__}): "
                "connect and run it again (finished tasks are kept), or set tasks.suite to embedded"
            ) from None
        for result in results.task_results:
            rows += _rows(name, task, result, params, note)
    _record(model.mteb_model_meta, folder, params)
    return rows


def provenance(folder: Path) -> dict[str, dict]:
    """What each scored model was and read, for the manifest: revision, prompts, max length, dtype, and the seed of the tasks' samples."""
    return {path.stem: read_json(path) for path in sorted((folder / "models").glob("*.json"))}


def _record(meta, folder: Path, params: TasksParams) -> None:
    """One file for each model, from what mteb writes beside its results; a field that a model does not have (BM25: dtype) is null."""
    kwargs = dict(meta.experiment_kwargs or {})
    known = {name: kwargs.pop(name, None) for name in ("prompts", "max_length", "dtype")}
    (folder / "models").mkdir(parents=True, exist_ok=True)
    row = {"name": meta.name, "revision": meta.revision, "seed": params.seed, **known, **kwargs}
    write_json(folder / "models" / f"{meta.name.split('/')[-1]}.json", row)


def skipped(model: str, task, reason: str) -> dict:
    """The row of a cell that was not measured, with the reason."""
    return _row(model, task, "default", task.metadata.main_score, None, None, None, reason)


def read_items(folder: Path, model: str, task: str) -> dict[str, dict]:
    """Values of single items by subset, as the task wrote them: {"ids", "clusters", metric: [...]}."""
    return {path.stem: read_json(path) for path in sorted((folder / "items" / model / task).glob("*.json"))}


def compare(folder: Path | tuple[Path, Path], before: str, after: str, task: str, metric: str, params: TasksParams) -> dict:
    """Paired difference of two models on the same queries of all subsets.

    Args:
        folder: of the stage that scored both, or of each one's.

    Returns:
        {before, after, task, metric, difference, low, high, share_below_zero}.
    """
    folders = folder if isinstance(folder, tuple) else (folder, folder)
    columns = [_joined(read_items(own, model, task), metric) for own, model in zip(folders, (before, after), strict=True)]
    shared = sorted(set(columns[0]) & set(columns[1]))
    a, b = ([column[key][0] for key in shared] for column in columns)
    difference = paired_difference(a, b, params.bootstrap, params.seed, [columns[0][key][1] for key in shared])
    return {"before": before, "after": after, "task": task, "metric": metric, "n": len(shared), **difference}


def _rows(model: str, task, result, params: TasksParams, note: str | None) -> list[dict]:
    by_subset = {scores["hf_subset"]: scores for split in result.scores.values() for scores in split}
    if task.kind is None:
        return [
            _row(model, task, language_of(s), task.metadata.main_score, v["main_score"], None, None, note) for s, v in by_subset.items()
        ]
    items = read_items(task.items.parent.parent, model, task.metadata.name)
    rows = []
    for metric in METRICS[task.kind]:
        for subset, scores in by_subset.items():
            interval = _interval(items[subset], metric, params)
            rows.append(_row(model, task, language_of(subset), metric, float(scores[metric]), len(items[subset]["ids"]), interval, note))
        if task.kind == "crosslingual":
            values = [float(scores[metric]) for scores in by_subset.values()]
            joined = _joined({subset: items[subset] for subset in by_subset}, metric).values()
            interval = bootstrap_interval([v for v, _ in joined], params.bootstrap, params.seed, [c for _, c in joined])
            rows.append(_row(model, task, MEAN, metric, sum(values) / len(values), len(joined), interval, note))
    return rows


def _interval(items: dict, metric: str, params: TasksParams) -> tuple[float, float] | None:
    if metric == "cosine_spearman":
        left, right = zip(*items["ids"], strict=True)
        return spearman_interval(items["gold"], items["cosine"], left, right, params.bootstrap, params.seed)
    if metric not in items:  # V-measure belongs to a whole clustering, not to a text
        return None
    return bootstrap_interval(items[metric], params.bootstrap, params.seed, items["clusters"])


def _joined(items: dict[str, dict], metric: str) -> dict[tuple, tuple]:
    """(subset, id) -> (value, cluster) over all subsets."""
    return {
        (subset, item): (value, cluster)
        for subset, one in items.items()
        for item, value, cluster in zip(one["ids"], one[metric], one["clusters"], strict=True)
    }


def _row(model, task, subset, metric, value, n, interval, note) -> dict:
    low, high = interval or (None, None)
    kind = task.kind or task.metadata.type.lower()
    rounded = None if value is None else round(float(value), 6)  # as mteb's files do: a resumed run gives the same digits
    return {"model": model, "task": task.metadata.name, "type": kind, "subset": subset, "metric": metric, "value": rounded, "n": n,
            "low": low, "high": high, "note": note}  # fmt: skip


@contextmanager
def _quiet():
    """mteb's messages, the progress bars below it, and scikit-learn's warning about a label that a small set lacks, off for a while."""
    log, shown, start = logging.getLogger("mteb"), not datasets.are_progress_bars_disabled(), tqdm.__init__
    level = log.level
    log.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    tqdm.__init__ = lambda bar, *args, **kwargs: start(bar, *args, **{**kwargs, "disable": True})  # mteb gives bm25s no other way
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedMetricWarning)
            yield
    finally:
        log.setLevel(level)
        tqdm.__init__ = start
        if shown:
            datasets.enable_progress_bars()
