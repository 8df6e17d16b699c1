"""Pins: links of the Markdown pages lead somewhere, lines stay within 120 columns, docs/layout.md names what there is, and
docs/reliability.md tests that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "PAPER.md", ROOT / "LOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_to_a_file(page):
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", prose(page))
    assert not [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "LOG.md"], ids=lambda page: page.name)
def test_each_line_is_at_most_120_columns_wide(page):
    lines = prose(page).splitlines()
    assert not [line for line in lines if len(line) > 120 and not line.startswith(("|", "![")) and "http" not in line]


def test_each_test_that_the_page_of_promises_names_is_there():
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", (ROOT / "docs/reliability.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    assert not [(file, test) for file, test in named if f"\ndef {test}(" not in (ROOT / file).read_text(encoding="utf-8")]


def test_the_layout_page_names_every_room_and_nothing_else():
    tree = re.search(r"```\n(conan_lib/\n.*?)```", (ROOT / "docs" / "layout.md").read_text(encoding="utf-8"), re.S)[1]
    named, parents = set(), []
    for line in tree.splitlines():
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        parents[indent // 2 :] = [name]
        named.add("".join(parents))
    assert not [name for name in named if not (ROOT / name).exists()]
    rooms = {f"conan_lib/{path.name}/" for path in (ROOT / "conan_lib").iterdir() if (path / "__init__.py").is_file()}
    assert rooms <= named
