"""The numbers of the first screen: what the run as a whole comes to, each with the artefact it came from."""

from dataclasses import dataclass

from conan_lib.evaluation.metrics import MEAN
from conan_lib.findings.claim import MEANINGS, Finding
from conan_lib.findings.run import Run
from conan_lib.findings.scores import CROSSLINGUAL, RECALL


@dataclass(frozen=True)
class Tile:
    """One large number with what it is and where it is from."""

    value: str
    label: str
    sources: tuple[str, ...]
    file: str = ""
    """Where the number stands, below the report's folder."""


def tiles(run: Run, findings: list[Finding]) -> list[Tile]:
    """The few numbers that say how the run went; what is missing says why."""
    return [_verdicts(findings), _recall(run), _bits(run), _seconds(run)]


def what(run: Run) -> str:
    """What was trained, in half a sentence."""
    count = run.results("pretrain").get("parameters")
    size = f"{count:,} parameters" if count else f"{run.backbone.num_hidden_layers} layers of width {run.backbone.hidden_size}"
    begin = "random weights" if run.params.model is None else run.params.model.start
    return f"{size} trained from {begin} on {len(run.params.data.languages)} languages"


def _recall(run: Run) -> Tile:
    own = {row["model"]: row for row in run.scores if (row["task"], row["metric"], row["subset"]) == (CROSSLINGUAL, RECALL, MEAN)}
    languages, candidates = len(run.params.data.languages) - 1, run.params.heldout.candidates
    label = f"mean cross-lingual R@10, {languages} languages to {run.pivot}, {candidates:,} candidates"
    if "supervised" not in own or own["supervised"]["value"] is None:
        why = run.unfinished("evaluate") or f"{run.key('evaluate')} has no such score"
        return Tile("not run", f"{label}; {why}", (run.key("evaluate"),))
    first, words = run.untrained
    start = f"{own[first]['value']:.2f} to " if own.get(first, {}).get("value") is not None else ""
    value, label = f"{start}{own['supervised']['value']:.2f}", f"{label}; {words} to stage 4"
    return Tile(value, label, (own["supervised"]["key"],), "tables/crosslingual.csv")


def _bits(run: Run) -> Tile:
    bits, keys = run.results("pretrain").get("bits_per_byte") or {}, (run.key("pretrain"),)
    if not bits:
        why = run.unfinished("pretrain") or f"{run.key('pretrain')} has no bits_per_byte"
        return Tile("not run", f"bits per byte of held-out text; {why}", keys)
    falls = sum(row["after"] < row["before"] for row in bits.values())
    before, after = (sum(row[when] for row in bits.values()) / len(bits) for when in ("before", "after"))
    return Tile(
        f"{before:.2f} to {after:.2f}", f"bits per byte of held-out text, mean over languages; falls in {falls} of {len(bits)}", keys,
        "tables/bits_per_byte.csv",
    )  # fmt: skip


def _seconds(run: Run) -> Tile:
    seconds = sum(manifest["seconds"] for manifest in run.manifests.values())
    label = f"of computing, {len(run.manifests)} of {len(run.stages)} stages finished"
    return Tile(f"{seconds / 60:.1f} min", label, ("manifests",), "tables/stages.csv")


def _verdicts(findings: list[Finding]) -> Tile:
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in MEANINGS}
    holds = counts.pop("reproduced"), counts.pop("directional")
    rest = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count or verdict == "contradicted")
    label = f"claims point the paper's way: {holds[0]} reproduced, {holds[1]} directional; {rest}"
    return Tile(f"{sum(holds)} of {len(findings)}", label, ("claims.json",), "claims.json")
