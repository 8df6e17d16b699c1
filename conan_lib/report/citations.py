"""Where a number is from, as both pages say it: a key that leads to its row in "This run", and the executed notebook that shows it."""

from collections.abc import Iterable
from pathlib import Path

from markupsafe import Markup, escape

from conan_lib.artefacts import read_json
from conan_lib.report.blocks import Section, Table
from conan_lib.report.render import html_cell

SHORT = 6
"""Characters of a key that the page shows; the whole of it is in the title, and in what a reader copies."""
FEW = 2
"""Keys that stand open; more are folded."""


class Citations:
    """Keys, the rows that they lead to, and the notebooks that show them.

    Args:
        sections: their tables with `anchors` hold the rows.
        copies: the executed notebooks; the record beside each names the keys that it shows.
    """

    def __init__(self, sections: Iterable[Section], copies: Iterable[Path]):
        self._cells: dict[tuple[str, int, int], str] = {}
        for table in (block for section in sections for block in section.blocks if isinstance(block, Table)):
            places = [number for number, name in enumerate(table.header) if name in table.anchors]
            for row, cells in enumerate(table.cells):
                for place in places:
                    if cells[place] not in self._cells.values():
                        self._cells[table.id, row, place] = cells[place]
        self._notebooks = {
            key: copy.stem
            for copy in copies
            if (record := copy.with_suffix(".json")).is_file()
            for key in read_json(record)["keys"].values()
        }

    def id(self, table: str, row: int, place: int) -> str:
        """The id of a cell that keys lead to; empty for any other cell."""
        key = self._cells.get((table, row, place))
        return _id(key) if key else ""

    def notebooks(self, keys: Iterable[str]) -> list[str]:
        """The executed notebooks that show these keys."""
        return sorted({self._notebooks[key.partition("/")[2]] for key in keys if key.partition("/")[2] in self._notebooks})

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

    def cell(self, text: str) -> Markup:
        """A cell of a table: keys as links where it holds nothing else."""
        words = text.split()
        return self.html(words) if words and all(word in self._cells.values() for word in words) else html_cell(text)

    def markdown(self, keys: Iterable[str]) -> str:
        """The same for GitHub, keys in full."""
        keys = list(keys)
        links = [f"[notebook {name.partition('_')[0]}](notebooks/{name}.html)" for name in self.notebooks(keys)]
        return ", ".join([*(key if key == "paper" else f"`{key}`" for key in keys), *links])

    def _key(self, key: str) -> Markup:
        if key == "paper":
            return Markup("the paper")
        if key == "manifests":
            return Markup('<a href="#run">manifests</a>')
        if key.endswith(".json"):
            return Markup('<a href="{0}">{0}</a>').format(key)
        stage, _, value = key.partition("/")
        if key not in self._cells.values():
            return Markup("<code>{}</code>").format(key)
        rest = Markup('<span class="rest">{}</span>').format(value[SHORT:])
        return Markup('<a class="key" href="#{}" title="{}">{}/{}{}</a>').format(_id(key), escape(key), stage, value[:SHORT], rest)


def _id(key: str) -> str:
    return "key-" + key.replace("/", "-")
