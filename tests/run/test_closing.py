"""The closing table of a run."""

import re

import pytest
from rich.console import Console

from conan_lib.files import write_json
from conan_lib.findings.scores import RECALL
from conan_lib.run.closing import closing_table
from conan_lib.stages import open_stage
from tests.conftest import SCRATCH
from tests.handmade import finish


def text(stages, report) -> dict[str, str]:
    console = Console(width=200)
    with console.capture() as said:
        console.print(closing_table(stages, 61.0, report))
    return dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in said.get().splitlines())


@pytest.fixture
def stages(project):
    finish(*SCRATCH, file="params/small.yaml")
    return [open_stage(name, "params/small.yaml") for name in SCRATCH]


def test_it_counts_verdicts_and_names_score_interval_time_and_page(stages, project):
    report = project / "reports/small"
    write_json(report / "claims.json", [{"verdict": verdict} for verdict in ("not run", "reproduced", "not run")])
    evaluate = next(stage for stage in stages if stage.name == "evaluate")
    row = {
        "task": "bible-clr",
        "type": "crosslingual",
        "metric": RECALL,
        "subset": "mean",
        "model": "supervised",
        "value": 0.7,
        "low": 0.65,
        "high": 0.75,
    }
    write_json(evaluate.path / "scores.json", [row | {"model": "weak", "value": 0.1}, row])
    said = text(stages, report)
    assert said["verdicts"] == "1 reproduced, 2 not run"
    assert said["cross-lingual R@10"] == "0.700 [0.650, 0.750]"
    assert said["time"].startswith("61 s in this call, ") and said["page"] == "reports/small/index.html"


def test_what_is_missing_is_said(stages, project):
    evaluate = next(stage for stage in stages if stage.name == "evaluate")
    write_json(evaluate.path / "scores.json", [])
    said = text(stages, project / "reports/small")
    assert (said["verdicts"], said["headline score"]) == ("none", "not measured")
