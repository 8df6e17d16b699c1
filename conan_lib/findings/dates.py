"""When a claim's rule was decided, against when the artefacts that its verdict uses had finished."""

from dataclasses import dataclass
from datetime import UTC, datetime

from conan_lib.files import read_json
from conan_lib.findings.claim import Claim, Finding, Verdict
from conan_lib.findings.run import Run
from conan_lib.stages import project_root


@dataclass(frozen=True)
class Was:
    """An earlier rule, and the verdict under it."""

    when: str
    rule: str
    why: str
    verdict: Verdict


@dataclass(frozen=True)
class Dates:
    """What the page says beside a verdict.

    Attributes:
        text: when the rule was decided, and whether before what it judges. Nothing that was changed is called decided beforehand: whoever
            changed it knew earlier results.
        beforehand: whether it was.
        earlier: the rules before it, the last one first.
    """

    text: str
    beforehand: bool
    earlier: tuple[Was, ...]


def dates(run: Run, claim: Claim, finding: Finding) -> Dates:
    """A claim's dates beside the artefacts of its finding."""
    finished = finishing_times(run, finding.keys)
    before = [one for one in finished if one <= claim.decided]
    when = f"{'changed' if claim.earlier else 'decided'} {_when(claim.decided, claim.revision)}"
    if claim.earlier:
        text = f"{when}, after results under the earlier rule were known"
    elif before:
        text = f"{when}, after {len(before)} of the {len(finished)} artefacts that it judges had finished"
    elif finished:
        text = f"{when}, before any of the {len(finished)} artefacts that it judges had finished"
    else:
        text = when
    earlier = tuple(Was(_when(one.decided, one.revision), one.rule, one.why, one.verdict(run, finding)) for one in reversed(claim.earlier))
    return Dates(text, bool(finished) and not before and not claim.earlier, earlier)


def finishing_times(run: Run, keys: tuple[str, ...]) -> list[datetime]:
    """When the artefacts had finished; what is no artefact, or not here, is left out."""
    folder = project_root() / run.params.runtime.artefacts
    found = [folder / key / "manifest.json" for key in keys]
    return [datetime.strptime(read_json(path)["finished_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) for path in found if path.is_file()]


def _when(when: datetime, revision: str) -> str:
    return f"{when.date().isoformat()} ({revision})"
