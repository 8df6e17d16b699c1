"""C1: the soft mask helps."""

from conan_lib.findings.ablation import Ablation
from conan_lib.findings.claim import BEFORE_GRIDS, FEW_SEEDS, Claim, Finding
from conan_lib.findings.grid_claims import MEAN, finding, from_grid


@from_grid("masks", "weight + l/i", "abrupt", "causal")
def soft_mask_helps(ablation: Ablation) -> Finding:
    """C1: soft minus the better of abrupt and causal."""
    better = max(("abrupt", "causal"), key=lambda name: ablation.mean(name, MEAN).value)
    one = ablation.contrast({"weight + l/i": 1, better: -1}, MEAN)
    return finding(one, f"soft minus {better}, the better of abrupt and causal")


CLAIM = Claim(
    "C1",
    name="The soft mask helps",
    statement="Opening the causal mask gradually gives better embeddings than not doing so.",
    paper="Table 4: over DHNM alone, adding SM gives +1.28 en, +0.35 zh, +1.22 multilingual. Table 6, full fine-tuning: 71.50 to 73.52 en.",
    published="Table 4: +0.35 to +1.76",
    arms="weak.soft_mask.attention: soft, causal, bidirectional; else one run; mean main metric of all local tasks.",
    rule=f"Reproduced if soft minus the better of the other two is above 0 with its 95 % interval over seeds and queries. {FEW_SEEDS}",
    evaluate=soft_mask_helps,
    inconsistencies=(1, 8),
    decided=BEFORE_GRIDS[0],
    revision=BEFORE_GRIDS[1],
)
