"""Parquet tables as lists of dictionaries: the one way that stages hand records to each other."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from conan_lib.errors import UserError
from conan_lib.files import again, replacing


def read_table(path: str | Path, mend: str | None = None) -> pa.Table:
    """Read a parquet file.

    Args:
        mend: what to do where it is none or missing. None: make its artefact again.

    Raises:
        UserError: no such file, or not parquet.
    """
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such table; {mend or again(Path(path))}") from None
    except (pa.ArrowInvalid, OSError) as error:  # OSError: a page of it is damaged
        if getattr(error, "errno", None) is not None:
            raise
        raise UserError(f"{path}: not a parquet table ({' '.join(str(error).split())}); {mend or again(Path(path))}") from None


def read(path: str | Path, **options: str) -> list[dict]:
    """Read a parquet file as one dictionary a row; options as in read_table."""
    return read_table(path, **options).to_pylist()


def write(path: str | Path, records: Iterable[dict], schema: pa.Schema) -> int:
    """Write records atomically: a reader sees the old table or the new one.

    Args:
        path: the file; its folder is made.
        records: one dictionary a row, with exactly the schema's keys.
        schema: column names and types.

    Returns:
        The number of rows.
    """
    records = list(records)
    columns = [pa.array([record[field.name] for record in records], field.type) for field in schema]
    return write_table(path, pa.Table.from_arrays(columns, schema=schema))


def write_table(path: str | Path, table: pa.Table) -> int:
    """Write a table atomically; returns its number of rows."""
    with replacing(Path(path)) as new:
        pq.write_table(table, new, compression="zstd")
    return table.num_rows


def schema(text: str = "", floats: str = "", lists: str = "") -> pa.Schema:
    """A schema from column names separated by spaces: strings first, then floats, then lists of strings."""
    kinds = ((text, pa.string()), (floats, pa.float64()), (lists, pa.list_(pa.string())))
    return pa.schema([pa.field(name, kind) for names, kind in kinds for name in names.split()])
