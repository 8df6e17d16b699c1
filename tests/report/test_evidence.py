"""Pins: a run's report goes to a folder that git ignores; committed evidence is shown beside it, and only `publish` replaces it: refused
where grids would be lost, and without a trace of what the report does not draw."""

import json
import subprocess
from pathlib import Path

import pytest

from conan_lib.errors import UserError
from conan_lib.findings.files import committed
from conan_lib.params import load_params
from conan_lib.report.build import build_report
from conan_lib.report.evidence import RECORD, publish
from tests.handmade import finish

ROOT = Path(__file__).parents[2]
FILE = "params/tiny.yaml"


def evidence(verdict: str = "contradicted") -> Path:
    """A committed report whose C2 has another verdict, with a stale figure and a parcel."""
    folder = committed("tiny")
    (folder / "figures").mkdir(parents=True)
    (folder / "claims.json").write_text(
        json.dumps([{"id": "C2", "verdict": verdict, "effect": -0.5, "low": -0.6, "high": -0.4, "seeds": 3}])
    )
    (folder / RECORD).write_text(json.dumps({"tier": "tiny", "finished": "2026-01-02T03:04:05Z", "revisions": ["abc"], "unfinished": []}))
    (folder / "figures/old.svg").write_text("old")
    (folder / "scores").mkdir()
    (folder / "scores/part-00").write_text("a parcel")
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_git_ignores_where_runs_write_and_keeps_where_evidence_stands():
    runs = load_params(ROOT / FILE).runtime.reports
    ignored = [subprocess.run(["git", "check-ignore", "-q", f"{name}/tiny/report.md"], cwd=ROOT).returncode for name in (runs, "reports")]
    assert runs == "runs" and ignored == [0, 1]


def test_every_committed_report_names_its_run():
    reports = [path.parent for path in (ROOT / "reports").glob("*/report.md")]
    assert reports
    for folder in reports:
        known = json.loads((folder / RECORD).read_text())
        assert known["tier"] == folder.name and known["finished"] and known["revisions"]


def test_a_run_leaves_the_evidence_as_it_is_and_shows_it_beside_its_own(fake_run):
    folder = evidence()
    before = snapshot(folder)
    made = build_report(fake_run())
    assert made == Path.cwd() / "runs/tiny" and snapshot(folder) == before
    text = (made / "report.md").read_text()
    assert "2026-01-02T03:04:05Z, revision abc" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| [C2 CLR merges")]
    assert "directional" in line and "contradicted" in line and "-0.500 [-0.600, -0.400]" in line


def test_publish_replaces_the_report_and_says_what(fake_run):
    fake_run()
    folder = evidence()
    done = publish(FILE)
    assert done.folder == folder and done.changed == ("C2: contradicted -> directional",)
    assert {"claims.json", RECORD} <= set(done.replaced) and "report.md" in done.new and done.removed == ("figures/old.svg",)
    assert (folder / "scores/part-00").read_text() == "a parcel"
    made = Path("runs/tiny")
    assert (folder / "claims.json").read_bytes() == (made / "claims.json").read_bytes()
    assert "beside the committed report" not in build_report(FILE).joinpath("report.md").read_text(), "it is the committed one"


def test_publish_refuses_to_lose_grids_unless_asked_and_then_leaves_nothing_of_them(fake_run):
    """masks has a page in the committed report; old is a page of an earlier run that no grid file makes now."""
    fake_run()
    folder = evidence()
    for place in (folder, Path("runs/tiny")):
        (place / "ablations").mkdir(parents=True)
        (place / "ablations/ablation_old.md").write_text("old")
    (folder / "ablations/ablation_masks.md").write_text("evidence")
    before = snapshot(folder)
    with pytest.raises(UserError, match=r"not here, masks, old: .*conan-lib unpack.*conan-lib run --grid.*--partial") as error:
        publish(FILE)
    assert "\n" not in str(error.value) and snapshot(folder) == before
    done = publish(FILE, partial=True)
    assert done.removed == ("ablations/ablation_masks.md", "ablations/ablation_old.md", "figures/old.svg")
    assert not [*(folder / "ablations").iterdir()]
    assert publish(FILE).replaced == (), "nothing is missing any more"


def test_publish_refuses_a_partial_run_unless_asked(fake_run):
    fake_run("corpus", "sets")
    folder = evidence()
    before = snapshot(folder)
    with pytest.raises(UserError, match=r"heldout.* not finished"):
        publish(FILE)
    assert snapshot(folder) == before
    assert publish(FILE, partial=True).changed


def test_publish_refuses_a_run_that_writes_where_the_evidence_stands(fake_run):
    file = fake_run("corpus")
    with Path(file).open("a") as out:
        out.write("runtime: {reports: reports}\n")
    with pytest.raises(UserError, match=r"runtime\.reports"):
        publish(file)


def test_nothing_is_published_of_nothing(fake_run):
    with pytest.raises(UserError, match="nothing to publish"):
        publish(FILE)


def test_the_command_says_what_it_replaced(fake_run, conan):
    finish()
    evidence()
    code, out, _ = conan("publish", "tiny")
    assert code == 0 and "verdict of C2: contradicted -> directional" in out and "1 removed" in out
