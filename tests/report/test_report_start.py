"""A report of a run that starts from somebody's model says whose it is, under which licence, and what passed through; nothing of it speaks
of random weights where there were none."""

from pathlib import Path

import pytest
from handmade import finish, lay_out
from tiny_starts import save_start

from conan_lib.findings.run import Run
from conan_lib.report.build import build_report
from conan_lib.report.card import model_card

FILE = "params/start.yaml"
TEXT = """
tier: start
model: {start: ./somebody, layers: 2}
supervised: {max_length: 32, matryoshka_dims: [8, 16]}
efficiency: {dims: [8, 16]}
weak: {max_length: 32}
tasks: {max_length: 32}
"""


@pytest.fixture
def finished(tmp_path, monkeypatch) -> None:
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    save_start("qwen3", tmp_path / "somebody")
    (tmp_path / FILE).write_text(TEXT)
    finish(file=FILE)


def test_the_report_and_the_card_name_the_start(finished):
    build_report(FILE)
    report = Path("runs/start/report.md").read_text(encoding="utf-8")
    assert "trained from ./somebody" in report and "passes through" in report
    assert "the start to stage 4" in report and "from random weights" not in report
    card = model_card(Run.open(FILE))
    assert "license: apache-2.0" in card and "**Where it starts:** ./somebody" in card and "hidden 16" in card
