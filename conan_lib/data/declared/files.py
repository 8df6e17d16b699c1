"""Files and folders that people have, record by record: JSON lines, JSON, parquet, CSV and plain text, never whole in memory.

The readers are the formats' own and not `datasets`', whose JSON and CSV loaders guess types by the block, so that a mistake has neither a
line number nor, in the next block, the same message. What is on the hub goes through `datasets` (hub.py).
"""

import csv
import gzip
import io
import json
import sys
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from conan_lib.data.declared.retry import passing
from conan_lib.errors import UserError
from conan_lib.files import unpacked
from conan_lib.params.sets import SUFFIXES

Record = tuple[str, Any]
"""Place ("my/pairs.jsonl, line 3") and fields."""
PARAGRAPH = 4000
"""Characters after which a plain text's document ends at the next line: files without empty lines would be one document."""
BUILT, BEGUN = "build.json", "identity.json"
"""What `conan-lib translate` leaves in a folder that is done, and in one that it has begun."""
NOT_JSON = (ValueError, RecursionError)
"""ValueError: no JSON, or a key that stands twice; RecursionError: what is in itself too often."""
csv.field_size_limit(sys.maxsize)


class Broken(str):
    """What is wrong with a record that could not be read."""


class Cells(dict):
    """A record of a table: its values are texts, also those that stand for lists."""


def records(path: Path, broken: bool = False) -> Iterator[Record]:
    """Every record of a file, or of a folder's files in the order of their names.

    Args:
        path: the file or folder.
        broken: yield a Broken in the place of a line that is no record, where the others can be read without it.

    Raises:
        UserError: no such file, none that can be read, or a record that is none; one line names file and record.
    """
    for file in files(path):
        suffix = _kind(file)
        for place, row in READERS[suffix](file):
            if not isinstance(row, (dict, Broken)):
                row = Broken(f"found {type(row).__name__} where a record is needed: write an object with named fields")
            if isinstance(row, Broken) and not broken:
                raise UserError(f"{file}, {place}: {row}")
            yield f"{file}, {place}", row


def files(path: Path) -> list[Path]:
    """The file, or those of a folder, sorted: of its data/ where it has one, as the hub's folders and `conan-lib translate` do.

    Raises:
        UserError: no such file or folder, a translation that is not done, no file or several kinds of files.
    """
    if path.is_file():
        if _kind(path) not in SUFFIXES:
            raise UserError(f"{path}: not a kind of file that is read: give {', '.join(SUFFIXES)}, or .gz of one but parquet")
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder")
    if (path / BEGUN).is_file() and not (path / BUILT).is_file():
        raise UserError(f"{path}: its translation is not finished: give the same `conan-lib translate` again")
    folder = path / "data" if (path / "data").is_dir() else path
    found = sorted(file for file in folder.rglob("*") if file.is_file() and _kind(file) in SUFFIXES)
    found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    kinds = sorted(set(map(_kind, found)))
    if len(kinds) > 1:
        raise UserError(f"{folder}: holds {' and '.join(kinds)} files: keep one kind in a folder, or name a file")
    if not found:
        raise UserError(f"{folder}: no {', '.join(SUFFIXES)} in it")
    return found


def _kind(path: Path) -> str:
    """How a file's name ends, in small letters and without .gz."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def divided(names: Iterable[object]) -> str:
    """What to say of a table with one column that should have several; empty where there is nothing to say."""
    (name, *others) = map(str, names) if names else ("",)
    sign = next((sign for sign in ";\t|," if sign in name), "") if not others else ""
    return f"; its columns seem to be divided by {sign!r}: save it as .csv with commas or as .tsv with tabs" if sign else ""


def encodable(text: str) -> bool:
    """Whether a text can be written: JSON may name one half of a pair of surrogates, UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_lines(path: Path, broken: bool = False) -> Iterator[object]:
    """One value a line; None for a blank one, and for one that is not JSON a Broken, if it may be.

    Raises:
        UserError: a line is not JSON, or the file is not UTF-8.
    """
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line, object_pairs_hook=_object) if line.strip() else None
            except NOT_JSON as error:
                wrong = Broken(_why(error))
                if not broken:
                    raise UserError(f"{path}, line {number}: {wrong}") from None
                yield wrong


class _Twice(ValueError):
    """A key that stands twice in an object, which the json module takes silently."""


def _object(pairs: list[tuple[str, object]]) -> dict:
    if len(found := dict(pairs)) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice: keep one")
    return found


def _why(error: Exception) -> str:
    if isinstance(error, _Twice):
        return str(error)
    return f"not JSON ({f'{error.msg}, column {error.colno}' if isinstance(error, json.JSONDecodeError) else error})"


@contextmanager
def opened(path: Path) -> Iterator[io.TextIOBase]:
    """A text file, unpacked where it ends in .gz. A byte order mark, as Windows writes it, is passed over.

    Raises:
        UserError: inside the block something is read that is not UTF-8 or not gzip, or more than an archive may hold.
    """
    try:
        with _bytes(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            yield text
    except UnicodeDecodeError:
        with _bytes(path) as file:
            number = next(number for number, line in enumerate(file, 1) if line.decode(errors="replace") != line.decode(errors="ignore"))
        raise UserError(f"{path}, line {number}: not UTF-8: save it as UTF-8") from None
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"{path}: not readable as gzip ({error}): pack it again") from None


def _bytes(path: Path) -> io.BufferedReader:
    return unpacked(gzip.open(path), path) if path.suffix.lower() == ".gz" else open(path, "rb")


def _lines(path: Path) -> Iterator[tuple[str, object]]:
    return ((f"line {number}", row) for number, row in enumerate(json_lines(path, broken=True), 1) if row is not None)


def _json(path: Path) -> Iterator[tuple[str, object]]:
    """An array of records, read whole, as Alpaca's; or lines under the wrong name, as FlagEmbedding's."""
    with opened(path) as file:
        start = file.read(1024).lstrip()[:1]
    if start != "[":
        yield from _lines(path)
        return
    with opened(path) as file:
        text = file.read()
    try:
        rows = json.loads(text, object_pairs_hook=_object)
    except _Twice as error:
        mark = object()  # stands where the object would, to find the record that holds it
        rows = json.loads(text, object_pairs_hook=lambda pairs: dict(pairs) if len(dict(pairs)) == len(pairs) else mark)
        number = next(number for number, row in enumerate(rows, 1) if str(mark) in str(row))
        raise UserError(f"{path}, record {number}: {error}") from None
    except NOT_JSON as error:
        raise UserError(f"{path}, line {getattr(error, 'lineno', 1)}: {_why(error)}") from None
    yield from ((f"record {number}", row) for number, row in enumerate(rows, 1))


def _parquet(path: Path) -> Iterator[tuple[str, object]]:
    try:
        number = 0
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pa.ArrowInvalid, OSError) as error:
        if passing(error):
            raise
        raise UserError(f"{path}: not a parquet table ({' '.join(str(error).split())}): save it as parquet again, or as .jsonl") from None


def _tabs(path: Path) -> Iterator[tuple[str, object]]:
    """A table with tabs. Many are written without quoting: where its quotation marks cannot be that, all of them are plain characters."""
    quoting = csv.QUOTE_MINIMAL
    try:
        deque(_table(path, "\t"), maxlen=0)  # read once before: a mistake at its end tells how its beginning is meant
    except UserError as error:
        quoting = csv.QUOTE_NONE
        try:
            deque(_table(path, "\t", quoting), maxlen=0)
        except UserError:
            raise error from None
    yield from _table(path, "\t", quoting)


def _table(path: Path, delimiter: str, quoting: int = csv.QUOTE_MINIMAL) -> Iterator[tuple[str, object]]:
    with opened(path) as file:
        rows = csv.DictReader(file, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            if twice := sorted({name for name in rows.fieldnames or () if rows.fieldnames.count(name) > 1}):
                raise UserError(f"{path}, line 1: two columns are called {twice[0]}: give one of them another name")
            for row in rows:
                if None in row or None in row.values():
                    wanted, found = len(rows.fieldnames), sum(value is not None for value in row.values()) + len(row.get(None, [0])) - 1
                    mend = divided(rows.fieldnames) or f": quote what holds a {delimiter!r}"
                    raise UserError(f"{path}, line {rows.line_num}: {found} fields under {wanted} names{mend}")
                yield f"line {rows.line_num}", Cells(row)
        except csv.Error as error:
            why = str(error).replace("\t", "\\t")
            mend = "write a quotation mark inside of quotation marks twice, or save it as .jsonl"
            raise UserError(f"{path}, line {rows.reader.line_num}: not CSV ({why}): {mend}") from None


def _plain(path: Path) -> Iterator[tuple[str, object]]:
    """Documents of a plain text: an empty line ends one, and so does the line with which it grows long."""
    first, lines, size = 1, [], 0
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                lines.append(line.rstrip("\r\n"))
                size += len(line)
            if lines and (not line.strip() or size >= PARAGRAPH):
                yield f"line {first}", {"text": "\n".join(lines)}
                lines, size = [], 0
            if not lines:
                first = number + 1
    if lines:
        yield f"line {first}", {"text": "\n".join(lines)}


READERS = {
    ".jsonl": _lines,
    ".json": _json,
    ".parquet": _parquet,
    ".csv": lambda path: _table(path, ","),
    ".tsv": _tabs,
    ".txt": _plain,
}
