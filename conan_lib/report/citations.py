"""Where a number is from, as both pages say it: its row in a table, the key of its stage, the executed notebook that shows it."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup, escape

from conan_lib.files import read_json
from conan_lib.findings.blocks import Block, Figure, Numbers, Table
from conan_lib.findings.tables import line_of, row_id
from conan_lib.report.sections import Section

SHORT = 6
"""Characters of a key that the page shows; the whole of it is in the title, and in what a reader copies."""
FEW = 2
"""Keys that stand open; more are folded."""


class Place(NamedTuple):
    """Where numbers stand.

    Attributes:
        name: of the table.
        csv: the file below the report's folder, with the line where it is one row.
        id: of the row, or the table, on the page.
    """

    name: str
    csv: str
    id: str


class Citations:
    """Keys, the cells that they lead to, and the notebooks that show them; of one page, whose cells are anchored as it is rendered.

    Args:
        sections: their tables with `anchors` hold the cells.
        copies: the executed notebooks; the record of each names the keys that it shows.
        blocks: all of the page, for the tables in which numbers stand.
    """

    def __init__(self, sections: Iterable[Section], copies: Iterable[Path], blocks: Iterable[Block] = ()):
        self._tables = {block.id: block for block in blocks if isinstance(block, Table)}
        tables = [(section.id, block) for section in sections for block in section.blocks if isinstance(block, Table) and block.anchors]
        self._keys = {key for _, table in tables for column in table.anchors for key in table.frame[column]}
        self._run = next((id for id, _ in tables), "")
        self._anchored: set[str] = set()
        self._notebooks = {
            key: copy.stem
            for copy in copies
            if (record := copy.with_suffix(".json")).is_file()
            for key in read_json(record)["keys"].values()
        }

    def anchor(self, key: str) -> str:
        """The id of the cell that a key leads to: of the first one that is rendered; empty for any later one."""
        if key in self._anchored:
            return ""
        self._anchored.add(key)
        return _id(key)

    def notebooks(self, keys: Iterable[str]) -> list[str]:
        """The executed notebooks that show these keys."""
        return sorted({self._notebooks[key.partition("/")[2]] for key in keys if key.partition("/")[2] in self._notebooks})

    def places(self, numbers: Numbers) -> list[Place]:
        """Where numbers stand, as far as this report has those tables.

        Raises:
            KeyError: a table lacks the row.
        """
        found = [Place("claims", "claims.csv", "verdicts")] if "claims" in numbers and "claims" not in self._tables else []
        for id, row in numbers.items():
            if table := self._tables.get(id):
                line = line_of(table, **row) if row else None
                found.append(Place(id, f"{table.file}#L{line}", row_id(table, line)) if line else Place(id, table.file, f"table-{id}"))
        return found

    def numbers(self, figure: Figure) -> Markup:
        """Links to the tables that hold a figure's numbers, for the page."""
        links = [Markup('<a href="#{}">{}</a>').format(place.id, place.name) for place in self.places(figure.numbers)]
        return Markup('<span class="from">Numbers: {}.</span> ').format(Markup(", ").join(links)) if links else Markup("")

    def html(self, keys: Iterable[str]) -> Markup:
        """Keys for the page, more than a few of them folded, then links to notebooks."""
        keys = list(keys)
        shown = Markup(" ").join(self._key(key) for key in keys)
        if len(keys) > FEW:
            shown = Markup('<details class="keys"><summary>{} artefacts</summary>{}</details>').format(len(keys), shown)
        links = [
            Markup('<a href="notebooks/{0}.html">notebook {1}</a>').format(name, name.partition("_")[0]) for name in self.notebooks(keys)
        ]
        return Markup('<span class="from">{}</span>').format(Markup(" ").join([shown, *links]))

    def markdown(self, keys: Iterable[str]) -> str:
        """The same for GitHub, keys in full."""
        keys = list(keys)
        links = [f"[notebook {name.partition('_')[0]}](notebooks/{name}.html)" for name in self.notebooks(keys)]
        return ", ".join([*(key if key == "paper" else f"`{key}`" for key in keys), *links])

    def _key(self, key: str) -> Markup:
        if key == "paper":
            return Markup("the paper")
        if key == "manifests":
            return Markup('<a href="#{}">manifests</a>').format(self._run)
        if key.endswith(".json"):
            return Markup('<a href="{0}">{0}</a>').format(key)
        if key not in self._keys:
            return Markup("<code>{}</code>").format(key)
        stage, _, value = key.partition("/")
        rest = Markup('<span class="rest">{}</span>').format(value[SHORT:])
        return Markup('<a class="key" href="#{}" title="{}">{}/{}{}</a>').format(_id(key), escape(key), stage, value[:SHORT], rest)


def _id(key: str) -> str:
    return "key-" + key.replace("/", "-")
