"""Topics are found by walking their package and belong together: ids are folders, claims are numbered, what they refer to exists."""

from pathlib import Path

import pytest

import conan_lib.topics
from conan_lib.findings.claim import ledger_row
from conan_lib.findings.published import inconsistencies
from conan_lib.run.notebooks import NOTEBOOKS
from conan_lib.topics import claims, topics

FOLDERS = [path.parent for path in Path(conan_lib.topics.__file__).parent.glob("*/__init__.py")]


def test_each_folder_is_a_topic_with_a_section_of_its_own():
    assert {topic.id for topic in topics()} == {folder.name for folder in FOLDERS}
    assert all((folder / "section.md.j2").is_file() for folder in FOLDERS)
    assert len({topic.order for topic in topics()}) == len(topics()) and len({topic.short for topic in topics()}) == len(topics())


def test_claims_are_numbered_and_each_has_one_topic():
    assert [claim.id for claim in claims()] == [f"C{number + 1}" for number in range(len(claims()))]


@pytest.mark.parametrize("topic", topics(), ids=lambda topic: topic.id)
def test_what_a_topic_refers_to_exists(topic):
    own = {claim.id for claim in topic.claims}
    assert set(topic.bears_on) <= {claim.id for claim in claims()} - own
    assert set(topic.inconsistencies) <= set(inconsistencies())
    assert topic.notebook is None or topic.notebook in NOTEBOOKS


def test_the_report_names_no_topic():
    """A new topic touches its own folder: nothing above or below lists the topics."""
    root = Path(conan_lib.topics.__file__).parent.parent
    for room in ("findings", "report"):
        for path in (root / room).rglob("*.py"):
            assert not [folder.name for folder in FOLDERS if f"topics.{folder.name}" in path.read_text(encoding="utf-8")], path


def test_a_ledger_row_is_plain_values(report):
    from conan_lib.findings.run import Run

    rows = {claim.id: ledger_row(claim, claim.evaluate(Run.open("params/tiny.yaml"))) for claim in claims()}
    assert (rows["C3"]["effect"], rows["C3"]["low"], rows["C3"]["high"]) == pytest.approx((0.23, 0.2, 0.26))
    assert "interval" not in rows["C3"] and rows["C12"]["low"] is None and rows["C12"]["decided"].startswith("2026-11-22")
