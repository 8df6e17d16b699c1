"""What a training set is, and what several of them are made with."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from conan_lib.data import records
from conan_lib.data.sampling import sample
from conan_lib.data.sources.bible import PASSAGE, Scripture, join, verse_id
from conan_lib.params.sets import Task

DEFAULTS = {"prompt": "", "negatives": [], "positive_lang": ""}
"""What a row may leave out: its anchor's own prompt, negatives that come with it, the language of its passage."""


@dataclass(frozen=True)
class TrainingSet:
    """One table of stage `sets`.

    Attributes:
        name: of its file, <name>.parquet.
        schema: its columns. What a loss reads is called anchor, positive, negatives and score in every set.
        build: (corpus, SetsParams, tables that it needs) -> rows; sees training documents and training books alone.
        needs: sets that come before it in SETS and that it is made from.
        tasks: of declared sets whose rows join it.
        size: the field of SetsParams that says how many rows it has at most, declared ones among them.
    """

    name: str
    schema: pa.Schema
    build: Callable[..., list[dict]]
    needs: tuple[str, ...] = ()
    tasks: tuple[Task, ...] = ()
    size: str = ""

    def write(self, path: Path, rows: Iterable[dict]) -> int:
        """Write its table, with DEFAULTS where a row has nothing to say; returns the number of rows."""
        return records.write(path, ({**DEFAULTS, **{k: v for k, v in row.items() if v is not None}} for row in rows), self.schema)


def enough(total: int, languages: tuple[str, ...]) -> int:
    """Candidates of one source and language that more than fill its share."""
    return 2 * total // len(languages) + 1


def openings(scripture: Scripture, lang: str, most: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """(id, first verse, the verses that follow it): a title and a text for languages that have little else."""
    for run in sample(scripture.passages("train", PASSAGE), most, seed):
        texts = [scripture.text(verse, lang) for verse in run]
        yield verse_id(run[0], lang), texts[0], join(texts[1:], lang)
