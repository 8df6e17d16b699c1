"""Declared sets divided into training and held-out rows, and training rows cleared of what is held out."""

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappush, heappushpop

from conan_lib.data.clean import Funnel
from conan_lib.data.declared import read, size
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.sampling import chance
from conan_lib.params.data import DataParams
from conan_lib.params.sets import DeclaredSet

BLOCK = 10_000
"""Rows that are compared with the evaluation texts at a time."""


def divided(declared: DeclaredSet, params: DataParams, funnel: Funnel, most: int) -> dict[str, list[dict]]:
    """Rows of a set by split: train, dev and test.

    A group (one query in all its translations, records with one anchor) is held out whole, by a hash of the seed and itself, so that it
    falls the same way in every set and in every order. Rows of a held-out file are dev and test by halves.

    Args:
        declared: the set.
        params: seed, languages, held-out share, and the largest held-out set.
        funnel: counts also what is sampled, over all splits.
        most: training rows to keep; drawn by a hash of their ids, in memory for no more than these.
    """
    share = declared.heldout_share(params.heldout_share)
    limits = {"train": most, "dev": params.heldout_documents, "test": params.heldout_documents}
    drawn = {split: Draw(limit, params.seed) for split, limit in limits.items()}
    # a hub set is too long to be read whole: twice what is kept leaves enough behind duplicates and held-out queries
    needed = 2 * most + int(2 * params.heldout_documents / share if share else 0) if declared.hub else None
    for row in read(declared, params.languages, funnel, needed, params.seed):
        draw = chance(params.seed, "split", row["group"])
        drawn["test" if draw < share else "dev" if draw < 2 * share else "train"].add(row)
    if isinstance(declared.heldout, str):
        for row in read(declared, params.languages, funnel, file=declared.heldout):
            drawn["test" if chance(params.seed, "split", row["group"]) < 0.5 else "dev"].add(row)
    found = {split: draw.rows() for split, draw in drawn.items()}
    for row in (row for rows in found.values() for row in rows):
        funnel.add(declared.source, row["lang"], "sampled", 1, size(row))
    return found


class Draw:
    """At most `most` of the rows that come by, those with the smallest hashes of seed and id, in their order."""

    def __init__(self, most: int, seed: int):
        self.most, self.seed, self._heap, self._count = most, seed, [], 0

    def add(self, row: dict) -> None:
        self._count += 1
        entry = -chance(self.seed, "draw", row["id"]), -self._count, row
        if len(self._heap) < self.most:
            heappush(self._heap, entry)
        else:
            heappushpop(self._heap, entry)

    def rows(self) -> list[dict]:
        return [row for _, _, row in sorted(self._heap, key=lambda entry: -entry[1])]


def asked(row: dict) -> Iterator[tuple[str, str]]:
    """(text, language) of what an evaluation asks with a held-out row: query, both sentences of sts, text. The passages that are searched
    stay in training, as in every search over one's own documents."""
    both = "positive" in row and "positive_id" not in row
    for name in ("anchor", "input", "text", *(("positive",) if both else ())):
        if row.get(name):
            yield row[name], row["lang"]


def decontaminated(rows: Sequence[dict], index: EvaluationIndex, funnel: Funnel) -> list[dict]:
    """Training rows that share no n-gram with an evaluation text, by anchor, positive, input, output or text."""
    kept = []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        shown = [(number, row[name], row["lang"]) for number, row in enumerate(block) for name in _SHOWN if row.get(name)]
        overlap = index.overlaps([(text, lang) for _, text, lang in shown])
        bad = {number for (number, _, _), found in zip(shown, overlap, strict=True) if found}
        kept += [row for number, row in enumerate(block) if number not in bad]
    for row in kept:
        funnel.add(row["source"], row["lang"], "decontaminated", 1, size(row))
    return kept


_SHOWN = ("anchor", "positive", "input", "output", "text")


def held_out(rows: Iterable[dict], index: EvaluationIndex) -> None:
    """Add held-out rows to the texts that no training text may share."""
    index.add(pair for row in rows for pair in asked(row))
