"""The numbers of the first screen: what the run as a whole comes to, each with the artefact it came from."""

from dataclasses import dataclass, field

from conan_lib.findings.blocks import Numbers
from conan_lib.findings.claim import MEANINGS, Finding
from conan_lib.findings.run import Run
from conan_lib.findings.scores import headline


@dataclass(frozen=True)
class Tile:
    """One large number with what it is and where it is from."""

    value: str
    label: str
    sources: tuple[str, ...]
    numbers: Numbers = field(default_factory=dict)
    """Where the number stands."""


def tiles(run: Run, findings: list[Finding]) -> list[Tile]:
    """The few numbers that say how the run went; what is missing says why."""
    return [_verdicts(findings), _score(run), _bits(run), _seconds(run)]


def what(run: Run) -> str:
    """What was trained, in half a sentence."""
    count = run.results("pretrain").get("parameters")
    size = f"{count:,} parameters" if count else f"{run.backbone.num_hidden_layers} layers of width {run.backbone.hidden_size}"
    begin = "random weights" if run.params.model is None else run.params.model.start
    return f"{size} trained from {begin} on {len(run.params.data.languages)} languages"


def _score(run: Run) -> Tile:
    key, found = run.key("evaluate"), headline(run.scores)
    if found is None:
        return Tile("not run", f"headline score; {run.unfinished('evaluate') or f'{key} has no score of stage 4'}", (key,))
    first, words = run.untrained
    before = headline(run.scores, first)
    start = f"{before.value:.2f} to " if before and before.name == found.name else ""
    label = f"{found.name}; {words} to stage 4"
    if found.kind == "crosslingual":
        languages = len(run.params.data.languages) - 1
        label = f"mean {found.name}, {languages} languages to {run.pivot}, {run.params.heldout.candidates:,} candidates; {words} to stage 4"
    where = {"scores": {"task": found.tasks[0]}} if len(found.tasks) == 1 else {"categories": {"model": "supervised"}}
    return Tile(f"{start}{found.value:.2f}", label, (key,), where)


def _bits(run: Run) -> Tile:
    bits, keys = run.results("pretrain").get("bits_per_byte") or {}, (run.key("pretrain"),)
    if not bits:
        why = run.unfinished("pretrain") or f"{run.key('pretrain')} has no bits_per_byte"
        return Tile("not run", f"bits per byte of held-out text; {why}", keys)
    falls = sum(row["after"] < row["before"] for row in bits.values())
    before, after = (sum(row[when] for row in bits.values()) / len(bits) for when in ("before", "after"))
    value, says = f"{before:.2f} to {after:.2f}", f"falls in {falls} of {len(bits)}"
    if run.params.pretrain is None:
        cut = f", cut to its first {run.params.model.layers} layers, which predict text badly" if run.params.model.layers else ""
        value, says = f"{before:.2f}", f"the start is passed on as it is{cut}"
    return Tile(value, f"bits per byte of held-out text, mean over languages; {says}", keys, {"bits_per_byte": {"language": "mean"}})


def _seconds(run: Run) -> Tile:
    seconds = sum(manifest["seconds"] for manifest in run.manifests.values())
    label = f"of computing, {len(run.manifests)} of {len(run.stages)} stages finished"
    return Tile(f"{seconds / 60:.1f} min", label, ("manifests",), {"stages": {"stage": "all"}})


def _verdicts(findings: list[Finding]) -> Tile:
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in MEANINGS}
    holds = counts.pop("reproduced"), counts.pop("directional")
    rest = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count or verdict == "contradicted")
    label = f"claims point the paper's way: {holds[0]} reproduced, {holds[1]} directional; {rest}"
    return Tile(f"{sum(holds)} of {len(findings)}", label, ("claims.json",), {"claims": {}})
