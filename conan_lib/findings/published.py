"""The paper's published figures, each with its place, and the points where it is inconsistent; read from published.yaml."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import yaml

from conan_lib.errors import UserError

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper: a row for each name, an empty cell where the paper reports nothing, and where the table stands."""

    id: str
    title: str
    place: str
    columns: tuple[str, ...]
    rows: tuple[tuple, ...]
    note: str = ""

    @property
    def frame(self) -> pd.DataFrame:
        """The table; a column keeps the types of its figures."""
        return pd.DataFrame(self.rows, columns=list(self.columns), dtype=object)

    @property
    def caption(self) -> str:
        return f"{self.title} ({self.place})." + (f" {self.note}" if self.note else "")


@cache
def published() -> dict[str, PaperTable]:
    """Every table of the paper that is kept here, by its id.

    Raises:
        UserError: a row has another number of cells than its table has columns; the line names both.
    """
    tables = {}
    for id, table in _read()["tables"].items():
        for row in table["rows"]:
            if len(row) != len(table["columns"]):
                raise UserError(f"{FILE.name}: {id}: row {row[0]} has {len(row)} cells, expected {len(table['columns'])}")
        rows = tuple(tuple(tuple(cell) if isinstance(cell, list) else cell for cell in row) for row in table["rows"])
        tables[id] = PaperTable(id, table["title"], table["place"], tuple(table["columns"]), rows, table.get("note", ""))
    return tables


@cache
def inconsistencies() -> dict[int, str]:
    """Number -> a point where the paper is inconsistent; claims and topics refer to them by number."""
    return _read()["inconsistencies"]


def parameters() -> int:
    """Parameters of the released model, from the public leaderboard."""
    return _read()["parameters"]


@cache
def _read() -> dict:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))
