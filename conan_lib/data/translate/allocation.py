"""Which query is translated into which language: the asked shares by largest remainder, the same on every machine."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from conan_lib.data.sampling import by_share, chance
from conan_lib.data.translate import Query
from conan_lib.params.data import TranslateParams


def shares(params: TranslateParams) -> dict[str, float]:
    """Language -> weight under language_balance: its share to that power."""
    return {lang: share**params.language_balance for lang, share in params.shares.items()}


def quotas(weights: Mapping[str, float], total: int, most: int) -> dict[str, int]:
    """`total` whole pieces in proportion to `weights`, at most `most` each; what is over a limit goes to the others.

    Largest remainder; of equal remainders the earlier language wins. Exact arithmetic, so that nothing hangs on rounding.

    Args:
        weights: language -> positive weight.
        total: pieces, at most len(weights) * most.
        most: the largest quota.
    """
    quota = by_share(dict.fromkeys(weights, most), {lang: Fraction(weight) for lang, weight in weights.items()}, total)
    return {lang: quota[lang] for lang in weights}


def allocate(queries: Sequence[Query], params: TranslateParams) -> list[tuple[str, Query]]:
    """(language, query) of every translation to make, by language and then in the queries' order.

    Queries of one source language share out the target languages without their own, in proportion; each query gets languages_per_query
    different ones (every one where that is 0, or where there are no more). Who gets what depends on seed and ids, not on the order.
    """
    weights = shares(params)
    given: dict[str, set[str]] = {lang: set() for lang in weights}
    for source in dict.fromkeys(query.lang for query in queries):
        group = sorted((query.id for query in queries if query.lang == source), key=lambda name: (chance(params.seed, name), name))
        targets = {lang: weight for lang, weight in weights.items() if lang != source}
        each = min(params.languages_per_query or len(targets), len(targets))
        place = 0
        for lang, count in quotas(targets, each * len(group), len(group)).items():
            # dealt in turn: a language takes at most one round, so no query gets it twice, and every query gets `each`
            given[lang] |= {group[(place + i) % len(group)] for i in range(count)}
            place += count
    return [(lang, query) for lang in weights for query in queries if query.id in given[lang]]
