"""A query's hard negatives before and after swaps: the pool of one query under the rule, visited as often as you like."""

import pandas as pd
import torch
from pandas.io.formats.style import Styler

from conan_lib.errors import UserError
from conan_lib.lab.finished import finished
from conan_lib.lab.tables import texts
from conan_lib.lab.vectors import model_in
from conan_lib.negatives import NegativePool
from conan_lib.stages import Stage
from conan_lib.training.mine import load_pools

SHOWN = 12


def queries(supervised: Stage, words: str = "", count: int = 8) -> list[str]:
    """Some queries that hold these words, in any case, spread over all that have a pool."""
    found = [query.text for query in load_pools(supervised).search.queries if words.casefold() in query.text.casefold()]
    if not found:
        raise UserError(f"no query holds {words!r}: try another word")
    return found[:: max(1, len(found) // count)][:count]


def swaps(supervised: Stage, query: str, visits: int = 2) -> Styler:
    """What the rule does to the pool of one query.

    At its first visit each negative has the score that mining gave it, by the weak-stage model; at later visits the one that the trained
    model gives it. A real run's scores lie between.

    Args:
        supervised: finished, with its pools.
        query: a text that has a pool, or its beginning.
        visits: times that a batch draws this pool and hands in the scores.

    Returns:
        The candidates by rank: S_0, the score now, and whether each is in use at the first visit and after the last.
    """
    model = model_in(finished(supervised) / "model")
    pools = load_pools(supervised)
    number = next((n for n, own in enumerate(pools.search.queries) if own.text.startswith(query)), None)
    if number is None:
        raise UserError(f"no query begins with {query!r}: take one of queries(stage)")
    place = pools.number(pools.search.queries[number].pool)
    rows = [row for row in pools.candidates[place].tolist() if row >= 0]
    mined = torch.tensor(pools.scores[place][: len(rows)])
    vectors = model.encode([query, *(pools.texts[row] for row in rows)], normalize_embeddings=True, convert_to_tensor=True,
                           show_progress_bar=False).cpu()  # fmt: skip
    trained = vectors[1:] @ vectors[0]
    pool = NegativePool(torch.arange(len(rows))[None], supervised.supervised.hard_negatives, supervised.supervised.dhnm)
    one, first = torch.zeros(1, dtype=torch.long), set()
    for visit in range(visits):
        used = pool.draw(one)
        first = first or set(used[0].tolist())
        margin = None if pool.options.margin is None else torch.ones(1)
        pool.update(one, (trained if visit else mined)[used], margin)
    for _ in range(2):  # a swap is drawn from the second visit after it on
        after = set(pool.draw(one)[0].tolist())
        pool.discard(one)
    table = [
        {"rank": rank, "S₀ (mined)": float(mined[rank]), "S now": float(trained[rank]), "first visit": "in use" if rank in first else "",
         f"after {visits}": "in use" if rank in after else "", "text": pools.texts[row]}
        for rank, row in enumerate(rows)
        if rank < SHOWN or rank in after
    ]  # fmt: skip
    return texts(pd.DataFrame(table), "–")
