"""The first screen: an abstract of four sentences, all claims in one forest plot, and the paper's main table beside ours."""

from markupsafe import Markup
from matplotlib.lines import Line2D

from conan_lib.findings.blocks import Figure
from conan_lib.findings.claim import MEANINGS, Claim, Finding, Verdict
from conan_lib.findings.plots import GREY, Drawing, style
from conan_lib.findings.published import parameters
from conan_lib.findings.run import Run
from conan_lib.findings.tables import number
from conan_lib.table import CHECKPOINTS

COLOURS: dict[Verdict, str] = {
    "reproduced": "#009E73",
    "directional": "#56B4E9",
    "contradicted": "#D55E00",
    "undecided at this scale": "#8793a0",
    "under-specified": "#CC79A7",
    "not run": "#c3cad1",
}
"""Verdict -> its colour in the forest plot; the page's chips have the like."""
BOUNDS = {"C8": (0.9,), "C10": (-0.3, 0.3)}
"""Claim -> the bounds of its rule where they are not zero."""
PAPER = "https://arxiv.org/abs/2509.12892"


def abstract(run: Run, judged: list[tuple[Claim, Finding]], what: str) -> list[str]:
    """What this is; how small against the paper; what held; what cannot be known."""
    count, paper = run.results("pretrain").get("parameters"), parameters()
    size = f"1/{paper / count:,.0f} of the paper's {paper:,} parameters" if count else f"far below the paper's {paper:,} parameters"
    by = {verdict: [claim for claim, finding in judged if finding.verdict == verdict] for verdict in MEANINGS}
    minutes = sum(manifest["seconds"] for manifest in run.manifests.values()) / 60
    trained = sum(map(run.params.trains, CHECKPOINTS))
    stages = "the paper's" if trained == len(CHECKPOINTS) else f"the last {trained} of the paper's"
    told = ("reproduced", "directional", "contradicted")
    held = "; ".join(f"{len(by[verdict])} {verdict} ({_names(by[verdict])})" for verdict in told if by[verdict])
    left = len(by["undecided at this scale"]) + len(by["under-specified"])
    return [
        f"This is an open reproduction of Conan-Embedding-v2: {what}, by {stages} four training stages.",
        f"It is small, {size}, and took {minutes:,.0f} minutes of computing: it speaks of mechanisms, not of the paper's scores.",
        f"Of {len(judged)} claims: {held or 'none has a verdict yet'}; {left} undecided at this scale; {len(by['not run'])} not run.",
        "What cannot be known here: effects that need the paper's size, data or weights, which are not published; what the paper leaves "
        "open we had to interpret.",
    ]


def _names(claims: list[Claim]) -> str:
    return ", ".join(claim.id for claim in claims)


def forest_of_claims(judged: list[tuple[Claim, Finding]]) -> Figure:
    """All claims in one picture: each effect with its interval against the bound of its rule, a scale for each row, coloured by verdict."""
    with style():
        drawing = Drawing(figsize=(9.6, 0.29 * len(judged) + 0.9))
        axis = drawing.subplots()
        for place, (claim, finding) in enumerate(judged):
            colour = COLOURS[finding.verdict]
            text = finding.verdict if finding.effect is None else f"{number(finding.effect)} {finding.unit}"
            if finding.interval and finding.effect is not None:
                marks, low, value, high = _scaled(claim, finding)
                axis.hlines(place, low, high, color=colour, linewidth=2.4)
                axis.plot(value, place, "o", color=colour, markersize=6)
                axis.plot(marks, [place] * len(marks), "|", color=GREY, markersize=11)
                text = f"{finding.effect:+.3f} [{finding.interval[0]:+.3f}, {finding.interval[1]:+.3f}] {finding.unit}"
            else:
                axis.plot(0, place, "s" if finding.effect is not None else "x", color=colour, markersize=6)
            axis.text(1.08, place, text, va="center", fontsize=8, color=colour if finding.verdict != "not run" else GREY)
        axis.set_yticks(range(len(judged)), [f"{claim.id}  {claim.name}" for claim, _ in judged])
        axis.set(xlim=(-1.05, 1.05), ylim=(len(judged) - 0.5, -0.6), xticks=[])
        axis.set_xlabel("against the claim  |  for the claim", fontsize=8.5)
        axis.axvline(0, color=GREY, linewidth=0.8)
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
        seen = [verdict for verdict in MEANINGS if any(finding.verdict == verdict for _, finding in judged)]
        handles = [Line2D([], [], color=COLOURS[verdict], marker="o", linestyle="-", label=verdict) for verdict in seen]
        drawing.legend(handles=handles, loc="outside upper center", ncols=len(seen), fontsize=8.5)
    caption = (
        "All claims: effect and 95 % interval, each row on a scale of its own; ticks mark the bound of its rule. A square has no "
        "interval, a cross no number."
    )
    agree = [claim.id for claim, finding in judged if finding.verdict in ("reproduced", "directional")]
    says = f"{len(agree)} of {len(judged)} claims point the paper's way{': ' if agree else ''}{', '.join(agree)}."
    return Figure("claims", caption, drawing, ("claims.json",), takeaway=says, numbers={"claims": {}})


def strip(claim: Claim, finding: Finding) -> Markup:
    """A row of the forest for the page's table: the effect and its interval against the ticks of the rule's bound, in the text's colour."""
    if finding.effect is None or not finding.interval:
        return Markup("")
    marks, low, value, high = _scaled(claim, finding)
    side = "includes" if low <= max(marks) and high >= min(marks) else "above" if low > 0 else "below"
    ticks = Markup("").join(Markup('<path d="M{0:.0f} 3v12" stroke="var(--soft)"/>').format(90 + 84 * mark) for mark in marks)
    return Markup('<svg viewBox="0 0 180 18" role="img"><title>{} the bound of the rule</title><path d="M90 0v18" stroke="var(--line)"/>{}'
                  '<path d="M{:.1f} 9H{:.1f}" stroke="currentColor" stroke-width="3"/>'
                  '<circle cx="{:.1f}" cy="9" r="5" fill="currentColor"/></svg>'
                  ).format(side, ticks, 90 + 84 * low, 90 + 84 * high, 90 + 84 * value)  # fmt: skip


def _scaled(claim: Claim, finding: Finding) -> tuple[list[float], float, float, float]:
    """The bounds of a rule; low end, effect and high end of its claim. 0 is the middle of the bounds, and the farthest end is at 1."""
    bounds, ends = BOUNDS.get(claim.id, (0.0,)), (finding.interval[0], finding.effect, finding.interval[1])
    middle = sum(bounds) / len(bounds)
    farthest = max(abs(end - middle) for end in (*ends, *bounds)) or 1.0
    return [(mark - middle) / farthest for mark in bounds], *((end - middle) / farthest for end in ends)
