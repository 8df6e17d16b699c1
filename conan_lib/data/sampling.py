"""Seeded draws that are the same on every machine and for every order of work. Needs nothing but the standard library."""

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def chance(*parts: Any) -> float:
    """A number in [0, 1) that depends on the parts alone: the same on every machine, for every order of work."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def drawn_split(group: str, share: float, seed: int) -> str:
    """test, dev or train: what is held out falls the same way in every set and every order, and a group whole."""
    draw = chance(seed, "split", group)
    return "test" if draw < share else "dev" if draw < 2 * share else "train"


def sample(rows: Iterable, size: int, seed: int | str, key: Callable[[Any], str] | None = None) -> list:
    """At most `size` rows in their original order: drawn by their place, or by the chance of their key, so that equal keys go together."""
    rows = list(rows)
    if len(rows) <= size:
        return rows
    if key is None:
        chosen = random.Random(seed).sample(range(len(rows)), size)
    else:
        chosen = sorted(range(len(rows)), key=lambda i: (chance(seed, key(rows[i])), i))[:size]
    return [rows[i] for i in sorted(chosen)]


def spread(groups: Mapping[str, list[dict]], total: int, seed: int) -> list[dict]:
    """At most `total` rows, as evenly over the groups as their sizes allow; rows keep their order."""
    quota, left = {}, total
    for number, name in enumerate(sorted(groups, key=lambda name: (len(groups[name]), name))):
        quota[name] = min(len(groups[name]), left // (len(groups) - number))
        left -= quota[name]
    return [row for name in groups for row in sample(groups[name], quota[name], seed)]


def by_lang_then_source(rows: Iterable[dict], total: int, seed: int) -> list[dict]:
    """`spread` over languages, and inside each over its sources."""
    tree: dict[str, dict[str, list[dict]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        tree[row["lang"]][row["source"]].append(row)
    flat = {lang: [row for found in sources.values() for row in found] for lang, sources in tree.items()}
    wanted = defaultdict(int)
    for row in spread(flat, total, seed):
        wanted[row["lang"]] += 1
    return [row for lang, sources in tree.items() for row in spread(sources, wanted[lang], seed)]


def by_share(groups: Mapping[str, list], shares: Mapping[str, float], total: int, seed: int | str) -> list:
    """At most `total` rows in proportion to the groups' shares; what a small group lacks goes to the others. Rows keep their order."""
    quota, open_, left = {}, dict(shares), total
    while small := [name for name, share in open_.items() if len(groups[name]) * sum(open_.values()) <= left * share]:
        for name in small:
            quota[name] = len(groups[name])
            del open_[name]
        left = total - sum(quota.values())
    exact = {name: left * share / sum(open_.values()) for name, share in open_.items()}
    quota |= {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda name: int(exact[name]) - exact[name])[: left - sum(quota[name] for name in exact)]:
        quota[name] += 1
    return [row for name, rows in groups.items() for row in sample(rows, quota[name], seed)]
