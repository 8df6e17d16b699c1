"""What a training set is, and what several of them are made with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from conan_lib.data.sampling import sample
from conan_lib.data.sources.bible import PASSAGE, Scripture, join, verse_id


@dataclass(frozen=True)
class TrainingSet:
    """One table of stage `sets`.

    Attributes:
        name: of its file, <name>.parquet.
        schema: its columns. What a loss reads is called anchor, positive, negatives and score in every set.
        build: (corpus, SetsParams, tables that it needs) -> rows; sees training documents and training books alone.
        needs: sets that come before it in SETS and that it is made from.
    """

    name: str
    schema: pa.Schema
    build: Callable[..., list[dict]]
    needs: tuple[str, ...] = ()


def enough(total: int, languages: tuple[str, ...]) -> int:
    """Candidates of one source and language that more than fill its share."""
    return 2 * total // len(languages) + 1


def openings(scripture: Scripture, lang: str, most: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """(id, first verse, the verses that follow it): a title and a text for languages that have little else."""
    for run in sample(scripture.passages("train", PASSAGE), most, seed):
        texts = [scripture.text(verse, lang) for verse in run]
        yield verse_id(run[0], lang), texts[0], join(texts[1:], lang)
