"""A claim of the paper, the finding of a run about it, and the rules by which a finding becomes a verdict.

Seeds decide how far a verdict may go. Below `MIN_SEEDS` seeds a claim is at most `directional`, and a difference against it is
`undecided at this scale`: neither confirmation nor refutation rests on one run.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Literal

from conan_lib.findings.intervals import Interval
from conan_lib.findings.published import inconsistencies
from conan_lib.findings.run import Run

Verdict = Literal["reproduced", "directional", "contradicted", "undecided at this scale", "under-specified", "not run"]
MEANINGS: dict[Verdict, str] = {
    "reproduced": "the rule holds with at least three seeds, the 95 % interval apart from its bound (or the count is equal to the unit)",
    "directional": "it points the paper's way, interval apart from the rule's bound, with fewer than three seeds",
    "contradicted": "an interval lies on the other side of the rule's bound with at least three seeds",
    "undecided at this scale": "measured, but the rule decides neither way: the interval, too few seeds or a missing arm leave it open",
    "under-specified": "the paper does not say enough to test it",
    "not run": "nothing was measured; the row says what would run it",
}
"""Verdict -> what it means, in the order of the first screen."""
MIN_SEEDS = 3
FIRST = datetime(2026, 11, 22, 15, 22, 56, tzinfo=UTC), "e9c0577"
"""When the ledger was written, before any run of three seeds or any grid: the rules that have not changed since."""
BEFORE_GRIDS = datetime(2026, 11, 22, 21, 47, 16, tzinfo=UTC), "fa43de4"
"""When the claims that grids test got their last wording, two hours before the first grid."""
STRICTER = datetime(2026, 11, 23, 13, 49, 12, tzinfo=UTC), "c28644c"
"""When C5, C6, C8 and C10 were made to ask for what their statements say, after the grids had run (LOG.md, "Four readings by others")."""
FEW_SEEDS = "Below three seeds: at most directional."

LIKE_WITH_LIKE = datetime(2026, 11, 29, 16, 15, 0, tzinfo=UTC), "f9d67f6"
"""When C6 asked for an arm in which LoRA trains the token embeddings too, and C9 counted tables of vectors among larger models."""


@dataclass(frozen=True)
class Finding:
    """What our run says about a claim.

    Attributes:
        verdict: by the claim's rule.
        reason: the first thing to say: what was compared, or why there is no number.
        details: what else belongs to it, a phrase each.
        effect: the number that decides, in `unit`, with its 95 % `interval`.
        seeds: that it rests on.
        keys: artefacts that hold the numbers.
        caveat: what the first screen says beside the verdict, from the numbers; empty where there is nothing.
        model: whose numbers these are: its name, budget and headline score.
    """

    verdict: Verdict
    reason: str
    details: tuple[str, ...] = ()
    effect: float | None = None
    unit: str = ""
    interval: Interval | None = None
    seeds: int = 0
    keys: tuple[str, ...] = ()
    caveat: str = ""
    model: str = ""

    def __post_init__(self):
        if self.effect is not None and not (self.keys and isfinite(self.effect)):
            raise ValueError(f"a finite number with an artefact key is needed, not {self.effect} from {self.keys}")
        if not self.reason:
            raise ValueError("a verdict says why")

    @property
    def text(self) -> str:
        """All of it as one sentence."""
        return "; ".join((self.reason, *self.details))


@dataclass(frozen=True)
class Earlier:
    """A rule that a claim had before.

    Attributes:
        decided, revision: when, and in which git revision.
        rule: what it said.
        why: why it was changed.
        verdict: what it says of a run today, from the run and what the rule of now found.
    """

    decided: datetime
    revision: str
    rule: str
    why: str
    verdict: Callable[[Run, Finding], Verdict]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper. Its rule is part of the source.

    Attributes:
        id: C1, C2, ...
        name: a few words for the first screen.
        statement: the claim in a sentence.
        paper: the paper's figures with their place.
        published: the same in a few words, for the first screen.
        arms: the runs and measures of ours that test it.
        rule: how a verdict follows.
        evaluate: from a run to a Finding.
        inconsistencies: points where the paper is inconsistent that touch the claim.
        decided: when the rule was decided.
        revision: the git revision in which it was.
        caveat: what the first screen says beside the verdict whatever it is: what the test cannot show.
        earlier: the rules that it had before, the first one first.
    """

    id: str
    name: str
    statement: str
    paper: str
    published: str
    arms: str
    rule: str
    evaluate: Callable[[Run], Finding]
    inconsistencies: tuple[int, ...] = ()
    decided: datetime = FIRST[0]
    revision: str = FIRST[1]
    caveat: str = ""
    earlier: tuple[Earlier, ...] = ()

    def __post_init__(self):
        unknown = set(self.inconsistencies) - set(inconsistencies())
        if unknown or not all((self.statement, self.paper, self.published, self.arms, self.rule)):
            raise ValueError(f"{self.id}: every field is filled, and inconsistencies are of the list; unknown: {sorted(unknown)}")


def ledger_row(claim: Claim, finding: Finding) -> dict:
    """A claim and its finding as plain values."""
    row = {name: value for name, value in vars(claim).items() if name not in ("evaluate", "earlier")} | asdict(finding)
    row |= {"decided": claim.decided.isoformat(), "caveat": caveats(claim, finding)}
    low, high = finding.interval or (None, None)
    del row["interval"]
    return row | {"low": low, "high": high}


def caveats(claim: Claim, finding: Finding) -> str:
    """What stands beside the verdict on the first screen."""
    return "; ".join(filter(None, (claim.caveat, finding.caveat)))


def difference(effect: float, interval: Interval, seeds: int) -> Verdict:
    """Verdict on `effect` > 0 by the rule above: the 95 % interval must leave zero out."""
    low, high = interval
    if low > 0:
        return "reproduced" if seeds >= MIN_SEEDS else "directional"
    return "contradicted" if high < 0 and seeds >= MIN_SEEDS else "undecided at this scale"


def weakest(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a claim whose parts must all hold."""
    order: tuple[Verdict, ...] = ("contradicted", "undecided at this scale", "directional", "reproduced")
    return min(verdicts, key=order.index)


def reading(effect: float, interval: Interval) -> str:
    """What a difference says about the claim, in words."""
    low, high = interval
    if low <= 0 <= high:
        return "the interval includes zero"
    return "supports the claim" if effect > 0 else "speaks against the claim"


def seeds_text(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def signed_text(value: float, interval: Interval) -> str:
    """A difference with its interval, for a sentence."""
    return f"{value:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"


def keys_of(runs: Sequence[Run], *stages: str) -> tuple[str, ...]:
    """The artefacts of some stages in all runs, shared ones once."""
    return tuple(dict.fromkeys(run.key(stage) for stage in stages for run in runs))
