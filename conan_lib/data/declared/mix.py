"""Declared rows in the training sets: each set of data/sets/ gets those of its tasks beside what its builder made."""

from conan_lib.data.corpus import Corpus
from conan_lib.data.declared import distinct
from conan_lib.data.sampling import by_share, chance
from conan_lib.data.sets.base import TrainingSet
from conan_lib.params.data import SetsParams
from conan_lib.params.sets import LABELS


def mixed(found: TrainingSet, own: list[dict], corpus: Corpus, params: SetsParams) -> list[dict]:
    """The builder's rows and the declared ones, by the shares of their sets where there are more than the set takes.

    Rows of embedded sources have the share of the embedded row together. Without declared rows nothing changes.
    """
    groups: dict[str, list[dict]] = {"": own}
    for row in corpus.rows:
        if row["split"] == "train" and row["task"] in found.tasks:
            groups.setdefault(row["source"], []).append(row)
    if len(groups) == 1:
        return own
    rows = [_completed(source, rows, corpus) if source else rows for source, rows in groups.items()]
    groups = dict(zip(groups, rows, strict=True))
    shares = {row.source: row.share for row in corpus.params.declared}
    shares[""] = sum(row.share for row in corpus.params.sets or () if row.embedded)
    shares = {source: shares[source] for source in groups if groups[source]}
    total = getattr(params, found.size) or sum(map(len, groups.values()))
    return by_share({source: groups[source] for source in shares}, shares, total, corpus.params.seed)


def _completed(source: str, rows: list[dict], corpus: Corpus) -> list[dict]:
    """Labelled texts with their label as the positive and another as the negative; other rows as they are.

    Raises:
        UserError: see `distinct`.
    """
    labels = distinct(rows[0]["task"], rows)
    if rows[0]["task"] not in LABELS:
        return rows
    completed = []
    for row in rows:
        step = 1 + int(chance(corpus.params.seed, row["id"]) * (len(labels) - 1))
        negative = labels[(labels.index(row["label"]) + step) % len(labels)]
        completed.append({**row, "anchor": row["text"], "positive": row["label"], "negatives": [negative], "set": source})
    return completed
