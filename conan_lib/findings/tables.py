"""Tables of numbers: how they are built, written for machines (CSV) and shown to readers (pandas Styler; HTML, Markdown, notebooks).

This is the one place where a number becomes text.
"""

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import accumulate
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
<tr id="{{ anchors[loop.index0] }}">{% for cell in row if cell.is_visible %}{{ cell.display_value }}{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
""",
            "markdown": """| {{ head[-1] | selectattr("is_visible") | map(attribute="display_value") | join(" | ") }} |
|{% for right in numeric %}{{ "---:|" if right else "---|" }}{% endfor %}

{% for row in body %}
{% set cells = row | selectattr("is_visible") | map(attribute="display_value") | list %}
{% set first = "[%s]%s" % (cells[0], links[loop.index0]) if links[loop.index0] else cells[0] %}
| {{ ([first] + cells[1:]) | join(" | ") }} |
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
        cells = [" ".join(map(str, cell)) if isinstance(cell, tuple | list) else cell for cell in frame[column]]
        frame[column] = pd.Series(cells, frame.index, dtype=object)  # integers stay integers
    return frame.to_csv(index=False)


def csv_lines(table: Table) -> list[int]:
    """The line of the CSV on which each row begins, counted from one as GitHub's `#L2` does; a text in it may hold several lines."""
    breaks = [sum(str(cell).count("\n") for cell in row) for row in table.frame.itertuples(index=False)]
    return list(accumulate(breaks, lambda line, more: line + 1 + more, initial=2))[: len(breaks)]


def line_of(table: Table, **cells: Any) -> int:
    """The line of the CSV that holds these cells, columns by name.

    Raises:
        KeyError: no row holds them, or several do.
    """
    rows = table.frame.reset_index(drop=True)
    found = rows.index[(rows[list(cells)] == pd.Series(cells)).all(axis=1)]
    if len(found) != 1:
        raise KeyError(f"{table.file}: {len(found)} rows have {cells}")
    return csv_lines(table)[found[0]]


def row_id(table: Table, line: int) -> str:
    """The id of a row on the page, by its line in the CSV."""
    return f"row-{table.id}-{line}"


def filled(table: Table) -> Table:
    """The table as a page shows it: without columns, and without rows of numbers, in which nothing was measured. The CSV keeps them.

    The index says which row of the whole table a row is."""
    frame = table.frame.reset_index(drop=True)
    flat = _folded(frame)
    empty = [name for name in flat.columns[1:] if all(is_missing(_value(cell)) for cell in flat[name])]
    frame = frame.drop(columns=[name for name in frame if str(name).removesuffix(LOW).removesuffix(HIGH) in empty])
    flat = _folded(frame)
    numbers_of = [name for name in flat if any(_is_number(_value(cell)) for cell in flat[name])]
    if numbers_of and len(frame):
        keep = [any(not is_missing(_value(cell)) for cell in row) for row in flat[numbers_of].itertuples(index=False)]
        frame = frame[keep] if any(keep) else frame
    return replace(table, frame=frame)


def to_html(table: Table, cite: Any = None) -> Markup:
    """The table as HTML. `cite` links artefact keys (report.citations); without it they are text."""
    shown = filled(table)
    lines = csv_lines(table)
    anchors = [row_id(table, lines[row]) for row in shown.frame.index]
    return Markup(_styled(_Html, shown, lambda column: partial(column.html, cite=cite), escape, anchors=anchors))


def to_markdown(table: Table, linked: bool = False) -> str:
    """The table as GitHub shows it; `linked`: the first cell of a row leads to the row in the CSV."""
    shown, lines = filled(table), csv_lines(table)
    links = [f"({table.file}#L{lines[row]})" if linked else "" for row in shown.frame.index]
    return _styled(_Markdown, shown, lambda column: lambda cell: markdown_cell(column.text(cell)), markdown_cell, links=links)


def show(frame: pd.DataFrame, missing: str | dict[str, str] = "not measured", **options: Any) -> Styler:
    """A frame as a notebook shows it: numbers with their intervals, flush right, and texts flush left. `options`: fields of Table."""
    folded = _folded(frame.reset_index(drop=True))
    table = Table("shown", "", frame, (), missing, **options)
    columns = {name: _Column(table, name, cells) for name, cells in folded.items()}
    left = [{"selector": cell, "props": "text-align: left"} for cell in ("th", "td")]
    shown = Styler(folded).format({name: column.text for name, column in columns.items()}, escape="html").hide(axis="index")
    return shown.set_table_styles({name: left for name, column in columns.items() if not column.right})


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


class _Column:
    """A column of a table as readers see it: its numbers have the same decimals, with intervals all that are allowed.

    Attributes:
        right: set flush right, as at least half of what is filled are numbers.
    """

    def __init__(self, table: Table, name: str, cells: pd.Series):
        self.table, self.name = table, name
        self.missing = table.missing.get(name, "none") if isinstance(table.missing, dict) else table.missing
        self.sign = "+" if name in table.differences else ""
        values = [_value(cell) for cell in cells if not is_missing(_value(cell))]
        self.right = bool(values) and 2 * sum(map(_is_number, values)) >= len(values)
        full = self.sign or any(isinstance(cell, Measured) and not is_missing(cell.low) for cell in cells)
        self.places = table.decimals if full else max((_decimals(value, table.decimals) for value in values), default=0)

    def parts(self, cell: Any) -> tuple[str, str]:
        """A cell's text, and its interval's."""
        value, bounds = _value(cell), [end for end in cell[1:] if not is_missing(end)] if isinstance(cell, Measured) else []
        if is_missing(value):
            return self.missing, ""
        if self.name in self.table.significant:
            write = _significant
        elif bounds:  # as many decimals as the bounds
            write = f"{{:{self.sign},.{self.places}f}}".format
        else:
            return number(value, self.missing, self.places, bool(self.sign)), ""
        return write(value), f"[{', '.join(map(write, bounds))}]" if bounds else ""

    def text(self, cell: Any) -> str:
        return " ".join(filter(None, self.parts(cell)))

    def html(self, cell: Any, cite: Any) -> str:
        """The cell of a page's table; a number is there in full, to sort by."""
        value, attributes = _value(cell), ""
        if self.right:
            attributes = ' class="num"' if _is_number(value) or is_missing(value) else ' class="num text"'
        if _is_number(value) and not is_missing(value):
            attributes += f' data-sort="{value}"'
        text, interval = self.parts(cell)
        content = escape(text) + (Markup(" <small>{}</small>").format(interval) if interval else "")
        if cite and self.name in self.table.anchors and not is_missing(value):
            attributes += f' id="{id}"' if (id := cite.anchor(value)) else ""
        elif cite and self.name in self.table.keys and not is_missing(value):
            content = cite.html(value if isinstance(value, tuple) else (value,))
        return f"<td{attributes}>{content}</td>"


def _styled(
    kind: type[Styler], table: Table, cell: Callable[[_Column], Callable[[Any], str]], head: Callable[[str], str], **rows: list
) -> str:
    frame = _folded(table.frame)
    columns = [_Column(table, name, cells) for name, cells in frame.items()]
    frame.columns = [str(head(str(name))) for name in frame]
    styler = kind(frame, cell_ids=False).hide(axis="index")
    styler.format({name: cell(column) for name, column in zip(frame, columns, strict=True)})
    return styler.to_html(numeric=[column.right for column in columns], **rows)


def _folded(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with each number and its interval in one cell."""
    bounds = {f"{name}{end}" for name in frame for end in (LOW, HIGH)}
    folded = frame[[name for name in frame if name not in bounds]].astype(object)
    for name in folded:
        if f"{name}{LOW}" in frame:
            cells = frame[[name, f"{name}{LOW}", f"{name}{HIGH}"]].itertuples(index=False)
            folded[name] = pd.Series([Measured(*cell) for cell in cells], folded.index, dtype=object)
    return folded


def _value(cell: Any) -> Any:
    return cell.value if isinstance(cell, Measured) else cell


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _decimals(value: Any, most: int) -> int:
    """Decimals that show a float: as few as it needs, none from a thousand up."""
    if not isinstance(value, float) or math.isnan(value) or abs(value) >= 1000:
        return 0
    return len(f"{value:.{most}f}".rstrip("0").partition(".")[2])


def _significant(value: float, digits: int = 3) -> str:
    """A number with so many digits, and all of those before its point."""
    before = math.floor(math.log10(abs(value))) + 1 if value else 1
    return f"{value:,.{max(0, digits - before)}f}"


def cut(text: str | None, characters: int) -> str | None:
    """A text that a reader needs no more of than so many characters."""
    return text[: characters - 1] + "…" if text and len(text) > characters else text
