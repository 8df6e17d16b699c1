"""Seeded draws that are the same on every machine and for every order of work. Needs nothing but the standard library."""

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

Key = Hashable


def chance(*parts: Any) -> float:
    """A number in [0, 1) that depends on the parts alone: the same on every machine, for every order of work."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def another(labels: Sequence[str], label: str, *parts: Any) -> str:
    """One of the other labels, drawn by the chance of the parts."""
    step = 1 + int(chance(*parts) * (len(labels) - 1))
    return labels[(labels.index(label) + step) % len(labels)]


def drawn_split(group: str, share: float, seed: int) -> str:
    """test, dev or train: what is held out falls the same way in every set and every order, and a group whole."""
    draw = chance(seed, "split", group)
    return "test" if draw < share else "dev" if draw < 2 * share else "train"


def drawn_places(count: int, size: int, seed: int | str) -> Container[int]:
    """Which places of `count` rows a sample of `size` takes."""
    return range(count) if count <= size else set(random.Random(seed).sample(range(count), size))


def sample(rows: Iterable, size: int, seed: int | str, key: Callable[[Any], str] | None = None) -> list:
    """At most `size` rows in their original order: drawn by their place, or by the chance of their key, so that equal keys go together."""
    rows = list(rows)
    if key is None or len(rows) <= size:
        places = drawn_places(len(rows), size, seed)
        return [row for place, row in enumerate(rows) if place in places]
    chosen = sorted(range(len(rows)), key=lambda i: (chance(seed, key(rows[i])), i))[:size]
    return [rows[i] for i in sorted(chosen)]


def stream_sample(
    rows: Iterable[dict], counts: Mapping[Key, int], sizes: Mapping[Key, int], seed: int | str, key: Callable
) -> Iterator[dict]:
    """`sample` of each group of rows that come mixed, as they come; nothing is held but the places.

    Args:
        rows: of all groups.
        counts: rows of each group.
        sizes: rows that are wanted of each group.
        key: the group of a row; rows of a group without a size are left out.
    """
    places = {group: drawn_places(counts[group], size, seed) for group, size in sizes.items()}
    seen: Counter = Counter()
    for row in rows:
        group = key(row)
        if group in places and seen[group] in places[group]:
            yield row
        seen[group] += 1


def even(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Group -> how many rows it gives to `total`, as evenly as the groups' sizes allow."""
    quota, left = {}, total
    for number, name in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
        quota[name] = min(sizes[name], left // (len(sizes) - number))
        left -= quota[name]
    return quota


def by_lang_then_source(rows: Callable[[], Iterable[dict]], total: int, seed: int) -> list[dict]:
    """At most `total` rows, as evenly over languages, and inside each over its sources, as their sizes allow; rows keep their order.

    Args:
        rows: makes the rows, twice: they are counted, then drawn, and no more than `total` are held.
    """
    counts = Counter((row["lang"], row["source"]) for row in rows())
    tree: dict[str, dict[str, int]] = defaultdict(dict)
    for (lang, source), count in counts.items():
        tree[lang][source] = count
    wanted = even({lang: sum(sources.values()) for lang, sources in tree.items()}, total)
    sizes = {}
    for lang, sources in tree.items():
        quota = even(sources, wanted[lang])
        sizes |= {(lang, source): quota[source] for source in sources}
    found: dict[tuple[str, str], list[dict]] = {group: [] for group in sizes}
    for row in stream_sample(rows(), counts, sizes, seed, group := lambda row: (row["lang"], row["source"])):
        found[group(row)].append(row)
    return [row for own in found.values() for row in own]


def by_share(counts: Mapping[str, int], shares: Mapping[str, float | Fraction], total: int) -> dict[str, int]:
    """Group -> how many rows it gives to `total`, in proportion to its share; what a small group lacks goes to the others.

    Largest remainder; of equal remainders the earlier group wins."""
    quota, open_, left = {}, dict(shares), total
    while small := [name for name, share in open_.items() if counts[name] * sum(open_.values()) <= left * share]:
        for name in small:
            quota[name] = counts[name]
            del open_[name]
        left = total - sum(quota.values())
    exact = {name: left * share / sum(open_.values()) for name, share in open_.items()}
    quota |= {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: int(exact[name]) - exact[name])[: left - sum(quota[name] for name in exact)]:
        quota[name] += 1
    return quota
