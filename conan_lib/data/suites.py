"""What benchmarks of mteb ask: texts that no training text may overlap (`data.decontaminate`)."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from conan_lib.data.declared.hub import HUB_ERRORS, SWITCHES
from conan_lib.data.languages import UNSPACED
from conan_lib.errors import UserError
from conan_lib.params.data import DataParams

NO_TEXT = ("id", "_id", "idx", "label", "labels", "label_text", "lang", "language", "category", "domain")
"""Columns that hold no text of a row."""


def suite_tasks(name: str) -> list:
    """The tasks of a benchmark, or the one task of that name; nothing is downloaded.

    Raises:
        UserError: mteb knows no such name, or is not installed.
    """
    try:
        import mteb
    except ImportError:
        raise UserError("data.decontaminate: needs the package mteb: pip install mteb") from None
    benchmarks = {found.name for found in mteb.get_benchmarks()}
    try:
        return list(mteb.get_benchmark(name).tasks) if name in benchmarks else [mteb.get_task(name)]
    except KeyError:
        near = difflib.get_close_matches(name, benchmarks, 1)
        raise UserError(
            f"data.decontaminate: {name}: mteb has no such benchmark or task{f', did you mean {near[0]}?' * bool(near)}"
        ) from None


def check_suites(params: DataParams) -> None:
    """Whether mteb knows what data.decontaminate names.

    Raises:
        UserError: see `suite_tasks`.
    """
    for name in params.decontaminate or ():
        suite_tasks(name)


def suite_texts(names: Iterable[str]) -> list[tuple[str, str]]:
    """(text, language) of all that these benchmarks ask.

    Raises:
        UserError: see `suite_tasks`; or a data set is neither in mteb's cache nor on the hub.
    """
    found = []
    for name in names:
        for task in suite_tasks(name):
            try:
                task.load_data()
            except (*HUB_ERRORS, ValueError) as error:
                raise UserError(
                    f"data.decontaminate: {name}: the hub gave no {task.metadata.dataset['path']} ({type(error).__name__}): connect to it "
                    f"(and unset {' and '.join(SWITCHES)}), or take the name out"
                ) from None
            found += task_texts(task)
            task.unload_data()
    return list(dict.fromkeys(found))


def task_texts(task: Any) -> Iterator[tuple[str, str]]:
    """(text, language) of what a task with its data asks in the splits that it evaluates: queries, sentences, texts to sort. The passages
    that are searched are not asked: they stay in training, as those of held-out queries do."""
    for subset in task.hf_subsets:
        lang = _language(task.metadata, subset)
        data = task.dataset.get(subset, task.dataset)
        for split in task.metadata.eval_splits:
            own = data[split]["queries"] if "queries" in data[split] else data[split]
            for row in own:
                values = [value for name, value in row.items() if name not in NO_TEXT]
                yield from ((text, lang) for value in values for text in _strings(value))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _language(metadata: Any, subset: str) -> str:
    """Our code where the script has no spaces between words, else English, which n-grams treat like all others."""
    named = metadata.eval_langs
    codes = named.get(subset, ()) if isinstance(named, dict) else named
    short = {"zho": "zh", "cmn": "zh", "jpn": "ja", "tha": "th", "lao": "lo", "khm": "km", "mya": "my", "bod": "bo"}
    return next((short[code[:3]] for code in codes if short.get(code[:3]) in UNSPACED), "en")
