"""Rows of a table by their numbers, without the table in memory."""

import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import accumulate
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from conan_lib.data.records import Rows
from conan_lib.files import lock, replacing


class Mapped(Sequence):
    """The rows of an Arrow file as dictionaries; the file is mapped into memory, and what is not being read is the system's to drop."""

    def __init__(self, file: IO[bytes]):
        """file: open for reading; it may be closed, and have lost its name, as soon as this is made."""
        self._reader = pa.ipc.open_file(pa.py_buffer(mmap(file.fileno(), 0, access=ACCESS_READ)))
        sizes = (self._reader.get_batch(number).num_rows for number in range(self._reader.num_record_batches))
        self._starts = [0, *accumulate(sizes)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, number: int) -> dict:
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        number = int(number) % len(self)
        batch = bisect_right(self._starts, number) - 1
        return self._reader.get_batch(batch).slice(number - self._starts[batch], 1).to_pylist()[0]

    def __iter__(self) -> Iterator[dict]:
        for batch in range(self._reader.num_record_batches):
            yield from self._reader.get_batch(batch).to_pylist()

    def select(self, places: Sequence[int]) -> Iterator[dict]:
        """The rows of rising places, in order; batches without one are not read."""
        places = np.asarray(places, np.int64)
        bounds = np.searchsorted(places, self._starts)
        for batch in np.flatnonzero(np.diff(bounds)).tolist():
            own = places[bounds[batch] : bounds[batch + 1]] - self._starts[batch]
            yield from self._reader.get_batch(batch).take(pa.array(own)).to_pylist()


def mapped(table: Path, folder: Path | None, *columns: str) -> Sequence[dict]:
    """The rows of a parquet table by number.

    Parquet is read by whole row groups alone, so the table is written once more as an Arrow file.

    Args:
        table: the parquet file.
        folder: keeps the Arrow file, for all processes of a launch; None: a file without a name in TMPDIR, for this one.
        columns: those that are wanted, all where none is named.

    Raises:
        UserError: no such table, or it is damaged.
    """
    rows = Rows(table, columns or None)
    if folder is None:
        with tempfile.TemporaryFile() as file:
            _write(rows, file)
            return Mapped(file)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{table.stem}.arrow"
    with open(folder / ".lock", "w") as held:
        lock(held)
        if not path.is_file():
            with replacing(path) as new, open(new, "wb") as file:
                _write(rows, file)
    with open(path, "rb") as file:
        return Mapped(file)


def _write(rows: Rows, file: IO[bytes]) -> None:
    batches = rows.batches()
    with closing(batches), pa.ipc.new_file(file, rows.schema) as out:
        for batch in batches:
            out.write_batch(batch)
    file.flush()
