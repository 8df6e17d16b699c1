"""Invariants: a mapped table has the rows of the table, by number, in order and chosen; views of it read what they show."""

import pytest

from conan_lib.data import records
from conan_lib.data.mapped import mapped
from conan_lib.errors import UserError
from conan_lib.training.tasks import View

SCHEMA = records.schema("id text", "score", "names")
ROWS = [{"id": str(i), "text": "神" * (i % 7), "score": i / 3 if i % 5 else None, "names": ["x"] * (i % 3)} for i in range(2500)]


@pytest.fixture(params=[True, False], ids=["in a folder", "without a name"])
def rows(request, tmp_path):
    records.write(tmp_path / "table.parquet", ROWS, SCHEMA)
    return mapped(tmp_path / "table.parquet", tmp_path / "rows" if request.param else None)


def test_rows_are_those_of_the_table(rows):
    assert len(rows) == len(ROWS) and list(rows) == ROWS
    assert [rows[i] for i in (0, 1023, 1024, 2499, -1)] == [ROWS[i] for i in (0, 1023, 1024, 2499, -1)]
    chosen = [3, 1023, 1024, 2400]
    assert list(rows.select(chosen)) == [ROWS[i] for i in chosen]
    with pytest.raises(IndexError):
        rows[2500]


def test_views_of_views_show_what_they_were_given(rows):
    even = View(rows, lambda place, row: {"place": place, **row}, range(0, 2500, 2))
    some = View(even, lambda place, row: row | {"second": place}, range(5, 1250, 100))
    expected = [{"place": 2 * n, **ROWS[2 * n], "second": n} for n in range(5, 1250, 100)]
    assert list(some) == [some[i] for i in range(len(some))] == expected
    assert list(View(ROWS, lambda place, row: row["id"])) == [row["id"] for row in ROWS]


def test_columns_no_rows_and_no_table(tmp_path):
    records.write(tmp_path / "table.parquet", [], SCHEMA)
    assert list(mapped(tmp_path / "table.parquet", tmp_path / "rows")) == []
    records.write(tmp_path / "other.parquet", ROWS[:2], SCHEMA)
    assert mapped(tmp_path / "other.parquet", None, "text")[1] == {"text": ROWS[1]["text"]}
    with pytest.raises(UserError, match="no such table"):
        mapped(tmp_path / "none.parquet", tmp_path / "rows")
