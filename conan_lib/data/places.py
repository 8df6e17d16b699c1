"""Where a text stands among very many: found by its digest, 20 bytes for each, so that the texts themselves can stay on disk."""

import hashlib
from collections.abc import Iterable

import numpy as np

SIZE = 12
"""Bytes of a digest: among 10**10 texts two are taken for one with a chance of 10**-9."""


def digest(*parts: str) -> bytes:
    """12 bytes that stand for some texts."""
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=SIZE).digest()


def digests(texts: Iterable[str]) -> np.ndarray:
    """Of each text, shape (N,)."""
    return np.fromiter(map(digest, texts), f"S{SIZE}")


class Places:
    """The places 0..N-1 of texts that were digested; a text may stand in several."""

    def __init__(self, keys: np.ndarray):
        """keys: (N,) what `digests` returned."""
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def __len__(self) -> int:
        return len(self._order)

    def last(self, keys: np.ndarray) -> np.ndarray:
        """The last place of each digest, shape (n,); -1 where it is unknown."""
        if not len(self):
            return np.full(len(keys), -1)
        place = np.searchsorted(self._sorted, keys, "right") - 1
        return np.where((place >= 0) & (self._sorted[place] == keys), self._order[place], -1)

    def __getitem__(self, text: str) -> np.ndarray:
        """All places of a text, rising; none where it is unknown."""
        low, high = (np.searchsorted(self._sorted, np.bytes_(digest(text)), side) for side in ("left", "right"))
        return self._order[low:high]

    def __contains__(self, text: str) -> bool:
        return len(self[text]) > 0


def grouped(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal keys brought together, groups in the order in which their first one came, and rising inside.

    Returns:
        places (N,) of the keys, group by group, and the places' bounds (G + 1,): group g is places[bounds[g]:bounds[g + 1]].
    """
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    number = np.argsort(np.argsort(first))[inverse]
    places = np.argsort(number, kind="stable")
    return places, np.searchsorted(number[places], np.arange(len(first) + 1))
