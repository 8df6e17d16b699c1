"""Keys that were seen and texts that lie near each other, remembered on disk.

SQLite's temporary database stays in memory up to CACHE and then goes on in a file without a name (in SQLITE_TMPDIR, TMPDIR or /var/tmp):
small sets never touch the disk, and large ones never fill the memory. Past the cache every new key costs a random access.
"""

import sqlite3
from collections.abc import Iterable, Iterator

import numpy as np

from conan_lib.data.sampling import chance
from conan_lib.params.data import DataParams

CACHE = 64
"""MiB of each database that stay in memory."""


def _temporary(*tables: str) -> sqlite3.Connection:
    database = sqlite3.connect("", isolation_level=None)
    for line in (f"PRAGMA cache_size = {-1024 * CACHE}", "PRAGMA journal_mode = OFF", "BEGIN", *tables):
        database.execute(line)
    return database


class OnDisk:
    """Key -> value, both texts or bytes, in the order in which keys came first."""

    def __init__(self, pairs: Iterable[tuple] = ()):
        self._database = _temporary("CREATE TABLE pairs (place INTEGER PRIMARY KEY, key UNIQUE, value)")
        self._database.executemany("INSERT OR REPLACE INTO pairs (key, value) VALUES (?, ?)", pairs)

    def add(self, key: str | bytes, value: str | bytes = "") -> bool:
        """Whether the key is new; a known one keeps its value."""
        return self._database.execute("INSERT OR IGNORE INTO pairs (key, value) VALUES (?, ?)", (key, value)).rowcount == 1

    def __setitem__(self, key: str | bytes, value: str | bytes) -> None:
        """Set a value; a known key keeps its place."""
        self._database.execute(
            "INSERT INTO pairs (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    def get(self, key: str | bytes) -> str | bytes | None:
        found = self._database.execute("SELECT value FROM pairs WHERE key = ?", (key,)).fetchone()
        return found and found[0]

    def __iter__(self) -> Iterator[tuple]:
        """(key, value) in order."""
        return iter(self._database.execute("SELECT key, value FROM pairs ORDER BY place"))

    def drawn(self, *parts) -> Iterator[tuple]:
        """(key, value) in an order that the parts and the keys alone decide."""
        self._database.create_function("drawn", 1, lambda key: chance(*parts, key), deterministic=True)
        return iter(self._database.execute("SELECT key, value FROM pairs ORDER BY drawn(key), place"))


class NearDuplicates:
    """MinHash LSH of texts one by one: is one like an earlier one that was kept?

    datasketch chooses the bands, at a threshold for which few permutations still make two of them. They only find candidates: the share of
    equal values must reach `near_duplicate_threshold`.
    """

    def __init__(self, params: DataParams):
        from datasketch import MinHashLSH

        self._threshold = params.near_duplicate_threshold
        self._bands = MinHashLSH(threshold=min(self._threshold, 0.8), num_perm=params.minhash_permutations).hashranges
        self._database = _temporary(
            "CREATE TABLE kept (number INTEGER PRIMARY KEY, signature)",
            "CREATE TABLE bands (band, number, PRIMARY KEY (band, number)) WITHOUT ROWID",
        )
        places = ", ".join("?" * len(self._bands))
        self._near = f"SELECT DISTINCT signature FROM bands JOIN kept USING (number) WHERE band IN ({places})"

    def add(self, signature: np.ndarray | None) -> bool:
        """Whether a text is like a kept one; if not it is kept.

        Args:
            signature: MinHash values, (permutations,) uint32; None, of a text too short for one, is like none.
        """
        if signature is None:
            return False
        bands = [bytes([place]) + signature[slice(*band)].tobytes() for place, band in enumerate(self._bands)]
        for (other,) in self._database.execute(self._near, bands):
            if np.mean(np.frombuffer(other, signature.dtype) == signature) >= self._threshold:
                return True
        number = self._database.execute("INSERT INTO kept (signature) VALUES (?)", (signature.tobytes(),)).lastrowid
        self._database.executemany("INSERT INTO bands VALUES (?, ?)", [(band, number) for band in bands])
        return False
