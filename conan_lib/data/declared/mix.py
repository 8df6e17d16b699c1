"""Declared rows in the training sets: each set of data/sets/ gets those of its tasks beside what its builder made."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain

from conan_lib.data.corpus import Corpus
from conan_lib.data.declared import distinct
from conan_lib.data.sampling import another, by_share, sample, stream_sample
from conan_lib.data.sets.base import TrainingSet
from conan_lib.params.data import SetsParams
from conan_lib.params.sets import LABELS


class Mix:
    """The declared training rows of a corpus, which are read to be counted and again to be drawn, and never held.

    Raises:
        UserError: see `distinct`.
    """

    def __init__(self, corpus: Corpus):
        self.corpus, self.counts, some = corpus, Counter(), defaultdict(dict)
        self.declared = {row.source: row for row in corpus.params.declared if row.task != "text"}
        for row in corpus.rows.only("source", "label", "score", split=("train",)):
            self.counts[row["source"]] += 1
            if row["label"] is not None or len(some[row["source"]]) < 2:  # of scores two are enough to tell whether they differ
                some[row["source"]][row["label"], row["score"]] = row
        self.labels = {source: distinct(self.declared[source].task, values.values()) for source, values in some.items()}

    def mixed(self, found: TrainingSet, own: Iterable[dict], params: SetsParams) -> Iterable[dict]:
        """The builder's rows and the declared ones, by the shares of their sets where there are more than the set takes.

        Rows of embedded sources have the share of the embedded row together. Without declared rows nothing changes.
        """
        counts = Counter({source: count for source, count in self.counts.items() if self.declared[source].task in found.tasks})
        if not counts:
            return own
        data, own = self.corpus.params, list(own)
        shares = {source: self.declared[source].share for source in counts}
        rows = self.corpus.rows.only(split=("train",), source=tuple(counts))
        if own:
            counts[""], shares[""] = len(own), sum(row.share for row in data.sets or () if row.embedded)
        sizes = by_share(counts, shares, getattr(params, found.size) or counts.total())
        drawn = stream_sample(rows, counts, sizes, data.seed, lambda row: row["source"])
        return chain(sample(own, sizes.get("", 0), data.seed), map(self._completed, drawn))

    def _completed(self, row: dict) -> dict:
        """A labelled text with its label as the positive and another as the negative; other rows as they are."""
        if row["task"] not in LABELS:
            return row
        negative = another(self.labels[row["source"]], row["label"], self.corpus.params.seed, row["id"])
        return {**row, "anchor": row["text"], "positive": row["label"], "negatives": [negative], "set": row["source"]}
