"""Tables: what is written is read back, a reader never sees half a table, a missing or broken table is one line."""

import pytest

from conan_lib.data import records
from conan_lib.errors import UserError

SCHEMA = records.schema("id text", "score", "names")
ROWS = [{"id": "a", "text": "神", "score": 0.5, "names": ["x", "y"]}, {"id": "b", "text": "", "score": None, "names": []}]


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "table.parquet"
    assert records.write(path, iter(ROWS), SCHEMA) == 2
    assert records.read(path) == ROWS
    assert records.read_table(path).schema.equals(SCHEMA)
    assert [other.name for other in path.parent.iterdir()] == ["table.parquet"]


def test_empty_table_keeps_its_columns(tmp_path):
    records.write(tmp_path / "table.parquet", [], SCHEMA)
    assert records.read_table(tmp_path / "table.parquet").column_names == ["id", "text", "score", "names"]


def test_failed_write_leaves_the_old_table(tmp_path):
    path = tmp_path / "table.parquet"
    records.write(path, ROWS, SCHEMA)
    with pytest.raises(KeyError):
        records.write(path, [{"id": "c"}], SCHEMA)
    assert records.read(path) == ROWS


def test_missing_and_broken_tables_are_one_line(tmp_path):
    with pytest.raises(UserError, match="no such table"):
        records.read(tmp_path / "none.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match="not a parquet table") as error:
        records.read(tmp_path / "broken.parquet")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"PAR1 but no more"])
def test_of_an_artefact_the_whole_folder_must_go(tmp_path, content):
    home = tmp_path / "data" / "0123456789abcdef"
    (home / "tables").mkdir(parents=True)
    if content:
        (home / "tables" / "one.parquet").write_bytes(content)
    with pytest.raises(UserError, match=f"; remove {home} and run its stage again$"):
        records.read(home / "tables" / "one.parquet")
