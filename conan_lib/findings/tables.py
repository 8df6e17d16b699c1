"""Tables of numbers: how they are built, written for machines (CSV) and shown to readers (pandas Styler; HTML, Markdown, notebooks).

This is the one place where a number becomes text.
"""

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import DictLoader, Environment
from markupsafe import Markup, escape
from pandas.io.formats.style import Styler

from conan_lib.findings.blocks import Table

LOW, HIGH = " low", " high"
TEMPLATES = Environment(
    loader=DictLoader(
        {
            "html": """<table class="sortable">
<thead><tr>{% for cell in head[-1] if cell.is_visible %}
<th scope="col"{{ " class=num" if numeric[loop.index0] }}>{{ cell.display_value }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in body %}
<tr>{% for cell in row if cell.is_visible %}{{ cell.display_value }}{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
""",
            "markdown": """| {{ head[-1] | selectattr("is_visible") | map(attribute="display_value") | join(" | ") }} |
|{% for right in numeric %}{{ "---:|" if right else "---|" }}{% endfor %}

{% for row in body %}
| {{ row | selectattr("is_visible") | map(attribute="display_value") | join(" | ") }} |
{% endfor %}
""",
        }
    ),
    trim_blocks=True,
    lstrip_blocks=True,
)


class Measured(NamedTuple):
    """A number with the 95 % interval that belongs to it; a cell of a table that is about to be shown."""

    value: float
    low: float
    high: float


class _Html(Styler):
    """pandas' Styler with the page's template."""

    template_html = TEMPLATES.get_template("html")


class _Markdown(Styler):
    """pandas' Styler with a Markdown table for template."""

    template_html = TEMPLATES.get_template("markdown")


def measured(name: str, row: Mapping[str, Any] | None, scale: float = 1, value: str = "value") -> dict[str, float | None]:
    """The columns of one measured number.

    Args:
        name: the column's.
        row: holds the number under `value`, its interval under `low` and `high`; None: nothing was measured.
        scale: 100 for percent.
    """
    found = [None if row is None or row.get(end) is None else scale * row[end] for end in (value, "low", "high")]
    return dict(zip((name, name + LOW, name + HIGH), found, strict=True))


def wide(rows: Iterable[tuple[Mapping[str, Any], str, Mapping[str, Any]]]) -> pd.DataFrame:
    """A table of measured numbers from (the row's own columns, the number's column, the number).

    Numbers of equal row columns share a row; rows and columns keep the order in which they come."""
    found: dict[tuple, dict] = {}
    for own, column, number in rows:
        found.setdefault(tuple(own.values()), dict(own)).update(measured(column, number))
    return pd.DataFrame(list(found.values()))


def to_csv(table: Table) -> str:
    """The table for a machine: numbers in full, empty cells where there is none, several keys separated by blanks."""
    frame = table.frame.copy()
    for column in frame.select_dtypes(include=["object", "str"]):
        frame[column] = frame[column].map(lambda cell: " ".join(map(str, cell)) if isinstance(cell, tuple | list) else cell)
    return frame.to_csv(index=False)


def to_html(table: Table, cite: Any = None) -> Markup:
    """The table as HTML. `cite` links artefact keys (report.citations); without it they are text."""
    frame, numeric = _folded(table.frame), _numeric(table)
    cells = {column: _html_cell(table, column, places, right, cite) for column, places, right in _columns(table, frame, numeric)}
    return Markup(_styled(_Html, frame, cells, escape).to_html(numeric=numeric))


def to_markdown(table: Table) -> str:
    """The table as GitHub shows it."""
    frame, numeric = _folded(table.frame), _numeric(table)

    def cell(column: str, places: int) -> Callable[[Any], str]:
        def show(value: Any) -> str:
            text, interval = _parts(table, column, value, places)
            return markdown_cell(f"{text} {interval}" if interval else text)

        return show

    cells = {column: cell(column, places) for column, places, _ in _columns(table, frame, numeric)}
    return _styled(_Markdown, frame, cells, markdown_cell).to_html(numeric=numeric)


def show(frame: pd.DataFrame, missing: str | dict[str, str] = "not measured", **options: Any) -> Styler:
    """A frame as a notebook shows it, numbers with their intervals. `options`: fields of Table."""
    table = Table("shown", "", frame, (), missing, **options)
    folded = _folded(frame)
    cells = {column: _text_cell(table, column, places) for column, places, _ in _columns(table, folded, _numeric(table))}
    styler = Styler(folded)
    for column, cell in cells.items():
        styler.format(cell, subset=[column])
    return styler.hide(axis="index")


def number(value: Any, missing: str = "not measured", decimals: int | None = None, signed: bool = False) -> str:
    """A cell as text, never blank: thousands separated; floats with `decimals` places, by default three below ten and one above.

    A number that they would not show has two digits instead, a difference (`signed`) one."""
    if is_missing(value):
        return missing
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number(inner, missing)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(number(inner, missing) for inner in value)
    if isinstance(value, numbers.Integral):
        return f"{int(value):+,}" if signed else f"{int(value):,}"
    if not isinstance(value, float):
        return str(value)
    if decimals is None:
        decimals = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    sign, digits, least = ("+", 1, 0.5 * 10**-decimals) if signed else ("", 2, 0.001)
    return f"{value:{sign}.{digits}g}" if 0 < abs(value) < least else f"{value:{sign},.{decimals}f}"


def markdown_cell(text: str) -> str:
    """Text inside a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def is_missing(value: Any) -> bool:
    """Whether a cell is empty."""
    return (
        value is None or value is pd.NA or value is pd.NaT or value in ("", [], (), {}) or (isinstance(value, float) and math.isnan(value))
    )


def _folded(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with each number and its interval in one cell."""
    columns = [name for name in frame if not (isinstance(name, str) and _base(name) in frame)]
    folded = frame[columns].astype(object).reset_index(drop=True)
    for name in columns:
        if f"{name}{LOW}" in frame:
            cells = frame[[name, f"{name}{LOW}", f"{name}{HIGH}"]].itertuples(index=False)
            folded[name] = pd.Series([Measured(*cell) for cell in cells], dtype=object)
    return folded


def _base(name: str) -> str | None:
    return next((name.removesuffix(end) for end in (LOW, HIGH) if name.endswith(end)), None)


def _value(cell: Any) -> Any:
    return cell.value if isinstance(cell, Measured) else cell


def _is_number(cell: Any) -> bool:
    return isinstance(_value(cell), numbers.Real) and not isinstance(_value(cell), bool)


def _numeric(table: Table) -> list[bool]:
    """Columns that are set flush right: at least half of what is filled are numbers."""
    columns = [[cell for cell in column if not is_missing(_value(cell))] for _, column in _folded(table.frame).items()]
    return [bool(column) and 2 * sum(map(_is_number, column)) >= len(column) for column in columns]


def _columns(table: Table, frame: pd.DataFrame, numeric: list[bool]) -> Iterable[tuple[str, int, bool]]:
    """(name, decimals, whether flush right): the numbers of a column have the same decimals, with intervals all that are allowed."""
    for (name, column), right in zip(frame.items(), numeric, strict=True):
        full = name in table.differences or any(isinstance(cell, Measured) and not is_missing(cell.low) for cell in column)
        places = table.decimals if full else max((_decimals(_value(cell), table.decimals) for cell in column), default=0)
        yield name, places, right


def _decimals(value: Any, most: int) -> int:
    """Decimals that show a float: as few as it needs, none from a thousand up."""
    if not isinstance(value, float) or math.isnan(value) or abs(value) >= 1000:
        return 0
    return len(f"{value:.{most}f}".rstrip("0").partition(".")[2])


def _parts(table: Table, column: str, cell: Any, places: int) -> tuple[str, str]:
    """A cell's text, and its interval's."""
    missing = table.missing.get(column, "none") if isinstance(table.missing, dict) else table.missing
    signed = column in table.differences
    if column in table.significant and not is_missing(_value(cell)):
        texts = [_significant(number) for number in (cell if isinstance(cell, Measured) else (cell,)) if not is_missing(number)]
        return texts[0], f"[{', '.join(texts[1:])}]" if len(texts) > 1 else ""
    if not isinstance(cell, Measured) or is_missing(cell.low) or signed:
        text = number(_value(cell), missing, places, signed)
    else:
        text = f"{cell.value:,.{places}f}"  # as many decimals as its interval
    if not isinstance(cell, Measured) or is_missing(cell.value) or is_missing(cell.low):
        return text, ""
    sign = "+" if signed else ""
    return text, f"[{cell.low:{sign},.{places}f}, {cell.high:{sign},.{places}f}]"


def _significant(value: float, digits: int = 3) -> str:
    """A number with so many digits, and all of those before its point."""
    before = math.floor(math.log10(abs(value))) + 1 if value else 1
    return f"{value:,.{max(0, digits - before)}f}"


def _text_cell(table: Table, column: str, places: int) -> Callable[[Any], str]:
    return lambda cell: " ".join(filter(None, _parts(table, column, cell, places)))


def _html_cell(table: Table, column: str, places: int, right: bool, cite: Any) -> Callable[[Any], str]:
    def show(cell: Any) -> str:
        kind, value = "", _value(cell)
        if right:
            kind = ' class="num"' if _is_number(cell) or is_missing(value) else ' class="num text"'
        sort = f' data-sort="{value}"' if _is_number(cell) and not is_missing(value) else ""
        text, interval = _parts(table, column, cell, places)
        content = escape(text) + (Markup(" <small>{}</small>").format(interval) if interval else "")
        if cite and column in table.anchors:
            if id := cite.anchor(value):
                kind += f' id="{id}"'
        elif cite and column in table.keys and not is_missing(value):
            content = cite.html(value if isinstance(value, tuple) else (value,))
        return f"<td{kind}{sort}>{content}</td>"

    return show


def _styled(kind: type[Styler], frame: pd.DataFrame, cells: dict[str, Callable[[Any], str]], head: Callable[[str], str]) -> Styler:
    styler = kind(frame.set_axis([str(head(str(name))) for name in frame], axis=1), cell_ids=False).hide(axis="index")
    for place, cell in enumerate(cells.values()):
        styler.format(cell, subset=[styler.columns[place]])
    return styler


def cut(text: str | None, characters: int) -> str | None:
    """A text that a reader needs no more of than so many characters."""
    return text[: characters - 1] + "…" if text and len(text) > characters else text
