"""The numbers of the first screen: what the run as a whole comes to, each with the artefact it came from."""

from dataclasses import dataclass

from conan_lib.report.findings import CROSSLINGUAL, Finding
from conan_lib.report.run import Run
from conan_lib.report.tables import MAIN_METRIC, MEAN, MODELS


@dataclass(frozen=True)
class Tile:
    """One large number with what it is and where it is from."""

    value: str
    label: str
    source: str


@dataclass(frozen=True)
class Bar:
    """One model's mean cross-lingual R@10; value, low, high between 0 and 1."""

    model: str
    peer: bool
    value: float
    low: float | None
    high: float | None
    source: str
    note: str


PEERS = MODELS[-3:]


def bars(run: Run) -> list[Bar]:
    """Mean cross-lingual R@10 of every model that was measured, checkpoints first."""
    metric = MAIN_METRIC["crosslingual"]
    rows = {row["model"]: row for row in run.scores if (row["task"], row["metric"], row["subset"]) == (CROSSLINGUAL, metric, MEAN)}
    found = [rows[model] for model in MODELS if model in rows and rows[model]["value"] is not None]
    return [Bar(r["model"], r["model"] in PEERS, r["value"], r.get("low"), r.get("high"), r["key"], r.get("note") or "") for r in found]


def tiles(run: Run, findings: list[Finding]) -> list[Tile]:
    """The few numbers that say how the run went; what is missing says why."""
    return [_recall(run), _bits(run), _seconds(run), _verdicts(findings)]


def _recall(run: Run) -> Tile:
    own = {bar.model: bar for bar in bars(run)}
    data = run.params.data
    label = f"mean cross-lingual R@10, {len(data.languages) - 1} languages to {run.pivot}, {data.eval_candidates:,} candidates"
    if "supervised" not in own:
        return Tile("not run", label, run.unfinished("evaluate") or f"{run.key('evaluate')} has no such score")
    start = f"{own['random'].value:.2f} to " if "random" in own else ""
    return Tile(f"{start}{own['supervised'].value:.2f}", f"{label}; random weights to stage 4", own["supervised"].source)


def _bits(run: Run) -> Tile:
    bits = run.results("pretrain").get("bits_per_byte") or {}
    if not bits:
        return Tile(
            "not run", "bits per byte of held-out text", run.unfinished("pretrain") or f"{run.key('pretrain')} has no bits_per_byte"
        )
    falls = sum(row["after"] < row["before"] for row in bits.values())
    before, after = (sum(row[when] for row in bits.values()) / len(bits) for when in ("before", "after"))
    label = f"bits per byte of held-out text, mean over languages; falls in {falls} of {len(bits)}"
    return Tile(f"{before:.2f} to {after:.2f}", label, run.key("pretrain"))


def _seconds(run: Run) -> Tile:
    seconds = sum(manifest["seconds"] for manifest in run.manifests.values())
    label = f"of computing, {len(run.manifests)} of {len(run.stages)} stages finished"
    return Tile(f"{seconds / 60:.1f} min", label, "manifests of all stages") if seconds else Tile("0 min", label, "no manifest yet")


def _verdicts(findings: list[Finding]) -> Tile:
    tested = [finding for finding in findings if finding.verdict != "not run"]
    counts = {verdict: sum(f.verdict == verdict for f in tested) for verdict in dict.fromkeys(f.verdict for f in tested)}
    label = "claims looked at: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return Tile(f"{len(tested)} of {len(findings)}", label, "claims.json")
