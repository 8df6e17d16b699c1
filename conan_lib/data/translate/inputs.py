"""A user's files, JSONL or Parquet: retrieval pairs, and human translations of their queries. A mistake is one line with its place."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from conan_lib.data import records
from conan_lib.data.declared.files import encodable, json_lines
from conan_lib.data.translate import Query
from conan_lib.errors import UserError

PAIRS = ("id", "query", "passage", "lang")
"""Fields of a pair."""
OPTIONAL = ("passage_id", "passage_lang")
"""What may stand beside them, and may be empty."""
TRANSLATIONS = ("id", "lang", "text")
NUMBERS = ("id", "passage_id")
"""Where a whole number is as good as a text."""


def read_pairs(path: str | Path) -> list[Query]:
    """Read retrieval pairs.

    Args:
        path: .jsonl or .parquet with id, query, passage and lang (of both); passage_id defaults to a hash of the passage, so that equal
            passages are one, and passage_lang to lang. Ids may be whole numbers.

    Raises:
        UserError: no such file, not readable, a field is missing, empty or no text, an id occurs twice, a passage_id names two
            passages, or there is no row.
    """
    queries, seen = [], set()
    passages: dict[str, str] = {}
    for place, row in _rows(Path(path), PAIRS, OPTIONAL):
        if row["id"] in seen:
            raise UserError(f"{path}, {place}: id {row['id']} occurs twice: every pair needs an id of its own")
        seen.add(row["id"])
        passage_id = row.get("passage_id") or hashlib.sha256(row["passage"].encode()).hexdigest()[:16]
        if passages.setdefault(passage_id, row["passage"]) != row["passage"]:
            raise UserError(f"{path}, {place}: passage_id {passage_id} names another passage above: give each passage an id of its own")
        queries.append(Query(row["id"], row["query"], row["passage"], passage_id, row["lang"], row.get("passage_lang") or row["lang"]))
    if not queries:
        raise UserError(f"{path}: no pairs in it")
    return queries


def read_translations(path: str | Path) -> dict[str, dict[str, str]]:
    """Read human translations as language -> query id -> text.

    Raises:
        UserError: as in read_pairs.
    """
    texts: dict[str, dict[str, str]] = {}
    for place, row in _rows(Path(path), TRANSLATIONS):
        known = texts.setdefault(row["lang"], {})
        if row["id"] in known:
            raise UserError(f"{path}, {place}: id {row['id']} has two translations into {row['lang']}: keep one")
        known[row["id"]] = row["text"]
    if not texts:
        raise UserError(f"{path}: no translations in it")
    return texts


def _rows(path: Path, fields: tuple[str, ...], optional: tuple[str, ...] = ()) -> Iterator[tuple[str, dict]]:
    """(place, row); every one of `fields` is a text that is not empty, and so is each of `optional` that is there."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"{path}: give a .jsonl or a .parquet file")
    rows = records.read(path, mend="save it as parquet again, or as .jsonl") if path.suffix == ".parquet" else json_lines(path)
    for number, row in enumerate(rows, 1):
        place = f"{'row' if path.suffix == '.parquet' else 'line'} {number}"
        if row is None:
            continue
        if not isinstance(row, dict):
            raise UserError(f"{path}, {place}: expected an object with {', '.join(fields)}")
        if missing := [name for name in fields if name not in row]:
            raise UserError(f"{path}, {place}: no field {', '.join(missing)}; it has {', '.join(row)}")
        for name in (*fields, *(name for name in optional if row.get(name) not in (None, ""))):
            if name in NUMBERS and type(row[name]) is int:  # True is an int too
                row[name] = str(row[name])
            if not isinstance(row[name], str) or not row[name].strip():
                raise UserError(f"{path}, {place}: {name} is {row[name]!r}, where a text is needed: fill it, or leave the row out")
            if not encodable(row[name]):
                raise UserError(f"{path}, {place}: {name} holds half a character (a lone surrogate): correct it, or leave the row out")
        yield place, row
