"""A user's retrieval pairs, and human translations of their queries. A mistake is one line with its place."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from conan_lib.data.declared.files import divided, encodable, records
from conan_lib.data.translate import Query
from conan_lib.errors import UserError
from conan_lib.params.languages import wrong

Source = str | Path | Sequence[Mapping[str, Any]]
"""A file, or the records themselves."""
PAIRS = ("id", "query", "passage", "lang")
"""Fields of a pair."""
OPTIONAL = ("passage_id", "passage_lang")
"""What may stand beside them, and may be empty."""
TRANSLATIONS = ("id", "lang", "text")
NUMBERS = ("id", "passage_id")
"""Where a whole number is as good as a text."""
LANGUAGES = ("lang", "passage_lang")
NEAR = 0.9
"""How like an optional field's name an unknown one must be to be taken for it (difflib's ratio)."""


def read_pairs(source: Source) -> list[Query]:
    """Read retrieval pairs.

    Args:
        source: a file of any kind that `data.sets` reads, or a list of records, with id, query, passage and lang (of both); passage_id
            defaults to a hash of the passage, so that equal passages are one, and passage_lang to lang. Ids may be whole numbers.

    Raises:
        UserError: no such file, not readable, a field is missing, empty or no text, a misspelt optional one, no code of a language, an id
            occurs twice, a passage_id names two passages, or there is no row.
    """
    queries, seen = [], set()
    passages: dict[str, str] = {}
    for place, row in _rows(source, "pairs", PAIRS, OPTIONAL):
        if row["id"] in seen:
            raise UserError(f"{place}: id {row['id']} occurs twice: every pair needs an id of its own")
        seen.add(row["id"])
        passage_id = row.get("passage_id") or hashlib.sha256(row["passage"].encode()).hexdigest()[:16]
        if passages.setdefault(passage_id, row["passage"]) != row["passage"]:
            raise UserError(f"{place}: passage_id {passage_id} names another passage above: give each passage an id of its own")
        queries.append(Query(row["id"], row["query"], row["passage"], passage_id, row["lang"], row.get("passage_lang") or row["lang"]))
    if not queries:
        raise UserError(f"{named(source, 'pairs')}: no pairs in it")
    return queries


def read_translations(source: Source) -> dict[str, dict[str, str]]:
    """Read human translations (id, lang, text) as language -> query id -> text.

    Raises:
        UserError: as in read_pairs.
    """
    if isinstance(source, Mapping):
        raise UserError("translations: give a file or a list of records, or translator=AlignedTranslations({lang: {id: text}}) instead")
    texts: dict[str, dict[str, str]] = {}
    for place, row in _rows(source, "translations", TRANSLATIONS):
        known = texts.setdefault(row["lang"], {})
        if row["id"] in known:
            raise UserError(f"{place}: id {row['id']} has two translations into {row['lang']}: keep one")
        known[row["id"]] = row["text"]
    if not texts:
        raise UserError(f"{named(source, 'translations')}: no translations in it")
    return texts


def named(source: Source, what: str) -> str:
    """How a message calls a source: a file by its name, records by what they are."""
    return str(source) if isinstance(source, str | Path) else what


def _records(source: Source, what: str) -> Iterator[tuple[str, Mapping]]:
    """(place, row) of a file, or of records that are there already."""
    if isinstance(source, str | Path):
        if not (path := Path(source)).is_file():
            raise UserError(f"{path}: {'is a folder: name a file' if path.is_dir() else 'no such file'}")
        yield from records(path)
        return
    if not isinstance(source, Sequence):
        raise UserError(f"{what}: found {type(source).__name__}: give a file, or a list of records")
    for number, row in enumerate(source, 1):
        if not isinstance(row, Mapping):
            raise UserError(f"{what}, record {number}: found {type(row).__name__} where a record is needed: give a dict with named fields")
        yield f"{what}, record {number}", row


def _rows(source: Source, what: str, fields: tuple[str, ...], optional: tuple[str, ...] = ()) -> Iterator[tuple[str, dict]]:
    """(place, row); every one of `fields` is a text that is not empty, and so is each of `optional` that is there."""
    for place, given in _records(source, what):
        row = dict(given)
        if missing := [name for name in fields if name not in row]:
            raise UserError(f"{place}: no field {', '.join(missing)}; it has {', '.join(map(str, row))}{divided(row)}")
        for name in row.keys() - {*fields, *optional}:
            if near := get_close_matches(str(name), [own for own in optional if own not in row], 1, NEAR):
                raise UserError(f"{place}: unknown field {name}, did you mean {near[0]}? Rename it")
        for name in (*fields, *(name for name in optional if row.get(name) not in (None, ""))):
            if name in NUMBERS and type(row[name]) is int:  # True is an int too
                row[name] = str(row[name])
            if not isinstance(row[name], str) or not row[name].strip():
                raise UserError(f"{place}: {name} is {row[name]!r}, where a text is needed: fill it, or leave the row out")
            if not encodable(row[name]):
                raise UserError(f"{place}: {name} holds half a character (a lone surrogate): correct it, or leave the row out")
            if name in LANGUAGES and (bad := wrong(row[name])):
                raise UserError(f"{place}: {name}: {bad}")
        yield place, row
