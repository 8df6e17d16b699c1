"""C6: full fine-tuning needs the soft mask."""

from conan_lib.findings.ablation import Ablation, Estimate
from conan_lib.findings.claim import FEW_SEEDS, FIRST, LIKE_WITH_LIKE, STRICTER, Claim, Earlier, Finding, Verdict, weakest
from conan_lib.findings.grid_claims import MEAN, by_earlier_rule, finding, from_grid, text, turned, verdict_of

GRID = "lora"
RANKS = ("LoRA r16", "LoRA r32", "LoRA r64")
LIKE = "LoRA r32 + embeddings"
"""The arm that trains the token embeddings too, as full fine-tuning does."""


def _cells(*arms: str) -> tuple[str, ...]:
    return ("full + SM", "full", *arms, *(f"{arm} + SM" for arm in arms))


@from_grid(GRID, *_cells(LIKE))
def full_needs_the_mask(ablation: Ablation) -> Finding:
    """C6: the interaction (full minus LoRA, with minus without the soft mask), and the sign of both differences."""
    parts = _parts(ablation, (LIKE,))
    weak = weakest([verdict_of(one) for one in parts.values()])
    name, one = next((name, one) for name, one in parts.items() if verdict_of(one) == weak)
    details = tuple(f"{other} {text(parts[other])}" for other in parts if other != name)
    return finding(one, f"{name} decides (LoRA of rank 32 that trains the embeddings too)", list(parts.values()), details=details)


def _parts(ablation: Ablation, arms: tuple[str, ...]) -> dict[str, Estimate]:
    """What must be above zero: the interaction, and both differences in the direction of the claim; LoRA is the mean of `arms`."""
    share = 1 / len(arms)
    weights = {"full + SM": 1, "full": -1} | {f"{arm} + SM": -share for arm in arms} | dict.fromkeys(arms, share)
    sides = [ablation.contrast({f"full{end}": 1} | {f"{arm}{end}": -share for arm in arms}, MEAN) for end in (" + SM", "")]
    return {
        "the interaction": ablation.contrast(weights, MEAN),
        "full minus LoRA with the mask": sides[0],
        "LoRA minus full without the mask": turned(sides[1]),
    }


@by_earlier_rule(GRID, *_cells(*RANKS))
def interaction_alone(ablation: Ablation) -> Verdict:
    """The interaction with the mean of three ranks that leave the embeddings as they are."""
    return verdict_of(_parts(ablation, RANKS)["the interaction"])


@by_earlier_rule(GRID, *_cells(*RANKS))
def both_halves(ablation: Ablation) -> Verdict:
    """The interaction and both differences, with the mean of three ranks that leave the embeddings as they are."""
    return weakest([verdict_of(one) for one in _parts(ablation, RANKS).values()])


CLAIM = Claim(
    "C6",
    name="Full fine-tuning needs the soft mask",
    statement="With the soft mask full fine-tuning beats LoRA; without it LoRA is ahead.",
    paper="Table 6, en, without and with SM: LoRA r16 72.18, 72.12; r32 72.08, 72.23; r64 71.83, 72.40; full 71.50, 73.52.",
    published="Table 6: full +2.02, LoRA at most +0.57",
    arms="LoRA and full fine-tuning, each with and without the soft mask; the LoRA that counts trains the token embeddings too.",
    rule="Reproduced if the interaction (full minus LoRA, with minus without), full minus LoRA with the mask and LoRA minus full without "
    f"it are all above 0 with their 95 % intervals; contradicted if one is below. LoRA trains the embeddings too. {FEW_SEEDS}",
    evaluate=full_needs_the_mask,
    inconsistencies=(1,),
    decided=LIKE_WITH_LIKE[0],
    revision=LIKE_WITH_LIKE[1],
    earlier=(
        Earlier(
            *FIRST,
            "Reproduced if the interaction (full minus LoRA, with minus without) is above 0 with its 95 % interval.",
            "the statement has two halves, full ahead with the mask and LoRA ahead without it",
            interaction_alone,
        ),
        Earlier(
            *STRICTER,
            "Reproduced if the interaction, full minus LoRA with the mask and LoRA minus full without it are all above 0 with their 95 % "
            "intervals; contradicted if one is below.",
            "LoRA left the token embeddings as they were, which full fine-tuning moved",
            both_halves,
        ),
    ),
)
