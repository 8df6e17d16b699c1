"""Training sets that a parameter file declares (`data.sets`): files, folders and the hub in one form.

`files` and `hub` give records one by one, `fields` puts them into our words, `read` counts and filters them, and `split` holds some out.
A mistake is one line that names file, record, field and mend.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from conan_lib.data.clean import Funnel
from conan_lib.data.declared import hub
from conan_lib.data.declared.fields import BadRecord, rows
from conan_lib.data.declared.files import Broken, records
from conan_lib.data.declared.retry import retried
from conan_lib.data.ngrams import normalise
from conan_lib.data.ondisk import OnDisk
from conan_lib.data.places import digest
from conan_lib.errors import UserError
from conan_lib.params.languages import wrong
from conan_lib.params.sets import LABELS, PAIRS, DeclaredSet, Task
from conan_lib.stages import located
from conan_lib.training.tasks import TASKS

STEPS = ("read", "complete", "scores", "languages", "exact duplicates")
"""Of the funnel: records that were read, and those that hold what the task needs; then rows, of which a record with several positives makes
several, after each step."""
CHECKED = 100_000
"""Most records that are looked at before a run starts."""


def check(declared: DeclaredSet, languages: tuple[str, ...]) -> list[dict] | None:
    """Read the set's head, and its held-out file's, so that a mistake shows before any work: CHECKED records of a file, of the hub up to
    the first of use.

    Returns:
        The set's rows; None where there are more than were read.

    Raises:
        UserError: see `read`; or there is no record of use, and what became of those that were read.
    """
    for file in [declared.heldout, None] if isinstance(declared.heldout, str) else [None]:
        funnel = Funnel()
        found = read(declared, languages, funnel, CHECKED, file=file, every_negative=True)
        rows = list(islice(found, 1 if declared.hub and not file else CHECKED))
        left = Counter()
        for row in funnel.rows():
            left[row["step"]] += row["documents"]
        whole = max(left["read"], len(rows)) < CHECKED and not declared.hub
        if rows:
            if whole:
                distinct(declared.task, rows)
            continue
        counts = ", ".join(f"{step} {left[step]:,}" for step in STEPS[:4])
        mend = "correct its lang, or add its language to data.languages" if left["scores"] else "look into the file and the row's keys"
        raise UserError(f"{file or declared.from_}: no record of use in {', '.join(languages)} ({counts}): {mend}")
    return rows if whole else None


def read(
    declared: DeclaredSet,
    languages: tuple[str, ...] | None,
    funnel: Funnel,
    most: int | None = None,
    seed: int = 0,
    file: str | None = None,
    every_negative: bool = False,
    alone: bool = False,
) -> Iterator[dict]:
    """The set's canonical rows (see `fields.rows`), one by one.

    Args:
        declared: the set.
        languages: rows of others are dropped and counted. None: all, of a file.
        funnel: counts what each of STEPS leaves.
        most: records to read where the set does not say (`rows`), of each language of a hub set. None: all.
        seed: of a hub set's shuffle.
        file: another file of the same form to read in its place: held-out records.
        every_negative: a pair that comes again with other negatives is no duplicate, where its task takes negatives: files of triplets
            bring one in each record.
        alone: the file stands in no `data.sets`, so a mistake's line advises none of its keys.

    Raises:
        UserError: the set cannot be read, its lang is no language's, or a record is wrong and bad_records is refuse.
    """
    if bad := next(filter(None, map(wrong, declared.languages)), ""):  # a set that stands in no parameter file
        raise UserError(f"{declared.source}: lang: {bad}")
    corpus = OnDisk(_passages(located(declared.corpus))) if declared.corpus else {}
    seen, ids = OnDisk(), OnDisk()
    brings = every_negative and declared.task in PAIRS and TASKS[declared.task].negatives != "none"
    for place, lang, number, record in _records(declared, languages, most, seed, file):
        step = f"{declared.source}, held-out file" if file else declared.source
        funnel.add(step, lang, "read", 1, 0)
        try:
            if isinstance(record, Broken):
                raise BadRecord(record)
            found = list(rows(record, declared, lang, number, corpus))
        except BadRecord as error:
            if declared.bad_records == "skip":
                continue
            raise UserError(f"{place}: {error.alone if alone else f'{error}, or set bad_records: skip'}") from None
        funnel.add(step, lang, "complete", 1, 0)
        for row in found:
            if (least := declared.min_positive_score) is not None and row["score"] < least:
                continue
            funnel.add(step, row["lang"], "scores", 1, size(row))
            if languages is not None and row["lang"] not in languages:
                continue
            funnel.add(step, row["lang"], "languages", 1, size(row))
            key = digest(*map(normalise, texts(row)))
            new = seen.add(key)
            if brings and row["negatives"]:
                new |= seen.add(key + digest(*sorted(map(normalise, row["negatives"]))))
            if not new:
                continue
            if not ids.add(row["id"]):  # each config of a hub set counts its own
                row["id"] += f"~{number}"
                ids.add(row["id"])
            funnel.add(step, row["lang"], "exact duplicates", 1, size(row))
            yield row


def distinct(task: Task, rows: Iterable[dict]) -> list:
    """The different labels or scores in the rows of one set, sorted; empty where its task has neither.

    Raises:
        UserError: there is one alone, from which nothing is learnt.
    """
    if not (name := "label" if task in LABELS else "score" if task == "sts" else ""):
        return []
    values = {(row["source"], row[name]) for row in rows}
    if len(values) == 1:
        ((source, value),) = values
        raise UserError(f"data.sets: {source}: every {name} is {value}, from which nothing is learnt: give records with another")
    return sorted(value for _, value in values)


def texts(row: dict) -> list[str]:
    """What a row says, the given negatives left out."""
    return [
        row[name]
        for name in ("anchor", "positive", "instruction", "input", "output", "title", "text", "label")
        if row.get(name) is not None
    ]


def size(row: dict) -> int:
    """Characters of a row."""
    return sum(map(len, texts(row)))


def _records(
    declared: DeclaredSet, languages: tuple[str, ...] | None, most: int | None, seed: int, file: str | None
) -> Iterator[tuple[str, str, int, dict]]:
    """(place, language or empty, number, fields) of every record that is to be read."""
    most = most if declared.rows is None or file else declared.rows if most is None else min(most, declared.rows)
    if file or not declared.hub:
        lang = declared.languages[0] if len(declared.languages) == 1 else ""
        path = located(file or declared.from_)
        for number, (place, record) in enumerate(islice(retried(lambda: records(path, broken=True), str(path)), most), 1):
            yield place, lang, number, record
        return
    commit = hub.resolved(declared)
    number = 0
    for lang in declared.languages or ("",):
        if not lang or lang in languages:
            for place, record in islice(hub.stream(declared, lang, commit, seed), most):
                number += 1
                yield place, lang, number, record


def _passages(path: Path) -> Iterator[tuple[str, str]]:
    """(id, title and text) of a file of passages.

    Raises:
        UserError: a record has no id or no text.
    """
    for place, row in records(path):
        key = next((row[name] for name in ("docid", "id", "_id", "corpus_id") if row.get(name) is not None), None)
        text = " ".join(str(row[name]) for name in ("title", "text") if row.get(name))
        if key is None or not text:
            raise UserError(f"{place}: a passage needs docid or id, and text; it has {', '.join(row)}")
        yield str(key), text
