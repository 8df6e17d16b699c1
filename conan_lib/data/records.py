"""Parquet tables: the one way that stages hand records to each other. They are written and read in row groups, as streams."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from conan_lib.errors import UserError
from conan_lib.files import again, replacing

AT_ONCE = 1024
"""Rows of a row group: what is in memory of a table that is read or written as a stream."""


@contextmanager
def _readable(path: str | Path, mend: str | None = None) -> Iterator[None]:
    """One line for a file that is missing or no parquet.

    Args:
        mend: what to do then. None: make its artefact again.

    Raises:
        UserError: no such file, or not parquet.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such table; {mend or again(Path(path))}") from None
    except (pa.ArrowInvalid, OSError) as error:  # OSError: a page of it is damaged
        if getattr(error, "errno", None) is not None:
            raise
        raise UserError(f"{path}: not a parquet table ({' '.join(str(error).split())}); {mend or again(Path(path))}") from None


def read_table(path: str | Path, mend: str | None = None) -> pa.Table:
    """Read a parquet file whole; arguments and errors as in `_readable`."""
    with _readable(path, mend):
        return pq.read_table(path)


def read(path: str | Path, **options: str) -> list[dict]:
    """Read a parquet file whole, as one dictionary a row; options as in read_table."""
    return read_table(path, **options).to_pylist()


@dataclass(frozen=True)
class Rows:
    """The rows of a parquet file as dictionaries, read in order as they are asked for, and again each time.

    Attributes:
        path: the file.
        columns: those that are wanted; None: all.
        where: column -> the values that it may have.
    """

    path: Path
    columns: tuple[str, ...] | None = None
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def only(self, *columns: str, **where: Sequence[str]) -> "Rows":
        """The same with further conditions, and of these columns alone where some are named."""
        return replace(self, columns=columns or self.columns, where={**self.where, **where})

    @property
    def schema(self) -> pa.Schema:
        """Of what is read."""
        with _readable(self.path):
            found = pq.read_schema(self.path)
        return found if self.columns is None else pa.schema([found.field(name) for name in self.columns])

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The same as Arrow's batches of at most AT_ONCE rows."""
        columns = None if self.columns is None else list(dict.fromkeys((*self.columns, *self.where)))
        with _readable(self.path), pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(AT_ONCE, columns=columns):
                for name, values in self.where.items():
                    batch = batch.filter(pc.is_in(batch[name], pa.array(values, pa.string())))
                yield batch if self.columns is None else batch.select(self.columns)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches():
            yield from batch.to_pylist()


def batched(rows: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` rows, the last one shorter."""
    rows = iter(rows)
    return iter(lambda: list(islice(rows, size)), [])


def write(path: str | Path, records: Iterable[dict], schema: pa.Schema) -> int:
    """Write records as they come, and atomically: a reader sees the old table or the new one.

    Args:
        path: the file; its folder is made.
        records: one dictionary a row, with all keys of the schema.
        schema: column names and types.

    Returns:
        The number of rows.
    """
    count = 0
    with replacing(Path(path)) as new, pq.ParquetWriter(new, schema, compression="zstd") as file:
        for rows in batched(records, AT_ONCE):
            columns = [pa.array([row[field.name] for row in rows], field.type) for field in schema]
            file.write_table(pa.Table.from_arrays(columns, schema=schema))
            count += len(rows)
    return count


def write_table(path: str | Path, table: pa.Table) -> None:
    """Write a table atomically."""
    with replacing(Path(path)) as new:
        pq.write_table(table, new, compression="zstd")


def schema(text: str = "", floats: str = "", lists: str = "") -> pa.Schema:
    """A schema from column names separated by spaces: strings first, then floats, then lists of strings."""
    kinds = ((text, pa.string()), (floats, pa.float64()), (lists, pa.list_(pa.string())))
    return pa.schema([pa.field(name, kind) for names, kind in kinds for name in names.split()])
