"""Numbers stay numbers until they are shown: a table's CSV is for machines, its page and Markdown show the same numbers, rounded once."""

import csv
import re

import pandas as pd

from conan_lib.findings.blocks import Table
from conan_lib.findings.tables import cut, measured, number, show, to_csv, to_html, to_markdown, wide

TABLE = Table(
    "t",
    "c",
    pd.DataFrame(
        {
            "a": [1.5, 2.25],
            "b": [None, 3],
            "c": ["x|<y>", ""],
            "d": [1234.5, 20000.0],
            "e": [0.12345, None],
            "e low": [0.1, None],
            "e high": [0.2, None],
        }
    ),
    ("k",),
    "not run",
    differences=("b",),
)


def test_a_number_becomes_text_once_and_a_column_has_the_same_decimals():
    lines = to_markdown(TABLE).splitlines()
    assert lines[0].split(" | ") == ["| a", "b", "c", "d", "e |"] and lines[1] == "|---:|---:|---|---:|---:|"
    assert lines[2] == "| 1.50 | not run | x\\|&lt;y> | 1,234 | 0.123 [0.100, 0.200] |"
    assert lines[3] == "| 2.25 | +3.000 | not run | 20,000 | not run |"


def test_the_page_keeps_numbers_to_sort_by_and_escapes_text():
    html = to_html(TABLE)
    assert '<td class="num" data-sort="0.12345">0.123 <small>[0.100, 0.200]</small></td>' in html and "x|&lt;y&gt;" in html
    assert '<th scope="col" class=num>e</th>' in html and '<th scope="col">c</th>' in html


def test_a_csv_is_for_machines():
    rows = list(csv.DictReader(to_csv(TABLE).splitlines()))
    assert rows[0] == {"a": "1.5", "b": "", "c": "x|<y>", "d": "1234.5", "e": "0.12345", "e low": "0.1", "e high": "0.2"}
    assert to_csv(Table("t", "c", pd.DataFrame({"keys": [("a/1", "b/2")]}), ())) == "keys\na/1 b/2\n"


def test_numbers_read_well():
    assert [number(v) for v in (None, float("nan"), True, 1234567, 0.00012, 0.5)] == ["not measured"] * 2 + [
        "yes",
        "1,234,567",
        "0.00012",
        "0.500",
    ]
    assert number({"en": 4.125, "de": 3}) == "en 4.125, de 3" and number(["a", 2]) == "a, 2"


def test_differences_carry_their_sign():
    numbers = (0.7054, -0.0091, 0.00031, 0.0)
    assert [number(v, decimals=3, signed=True) for v in numbers] == ["+0.705", "-0.009", "+0.0003", "+0.000"]


def test_result_rows_become_a_row_for_each_thing_and_three_columns_for_each_number():
    rows = [
        {"task": "a", "model": "x", "value": 0.5, "low": 0.4, "high": 0.6},
        {"task": "a", "model": "y", "value": None, "low": None, "high": None},
        {"task": "b", "model": "x", "value": 0.1, "low": None, "high": None},
    ]
    frame = wide(({"task": row["task"]}, row["model"], row) for row in rows)
    assert list(frame) == ["task", "x", "x low", "x high", "y", "y low", "y high"] and list(frame["task"]) == ["a", "b"]
    assert frame.loc[0, ["x", "x low", "x high"]].tolist() == [0.5, 0.4, 0.6] and frame["y"].isna().all()
    assert measured("m", {"difference": 0.2, "low": 0.1, "high": 0.3}, 100, "difference") == {"m": 20, "m low": 10, "m high": 30}
    assert measured("m", None) == {"m": None, "m low": None, "m high": None}


def test_a_notebook_shows_the_same_text():
    html = show(TABLE.frame, "not run", differences=("b",)).to_html()
    assert "0.123 [0.100, 0.200]" in html and "+3.000" in html and "e low" not in html


def test_one_way_to_shorten_a_text():
    assert cut("abcdef", 4) == "abc…" and cut("abcd", 4) == "abcd" and cut(None, 4) is None


def test_a_notebook_shows_texts_flush_left_and_numbers_with_their_intervals():
    html = show(pd.DataFrame({"task": ["a"], "x": [1.5], "x low": [1.0], "x high": [2.0]})).to_html()
    assert re.findall(r"td\.col(\d) \{\s*text-align: left", html) == ["0"] and "1.500 [1.000, 2.000]" in html
