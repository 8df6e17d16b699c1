"""C14: filtering weak pairs helps."""

from conan_lib.findings.ablation import Ablation
from conan_lib.findings.claim import FEW_SEEDS, Claim, Finding
from conan_lib.findings.grid_claims import MEAN, finding, from_grid


@from_grid("data", "all", "no filter")
def filter_helps(ablation: Ablation) -> Finding:
    """C14: filtered minus unfiltered weak pairs."""
    return finding(ablation.contrast({"all": 1, "no filter": -1}, MEAN), "filtered minus unfiltered")


CLAIM = Claim(
    "C14",
    name="Filtering weak pairs helps",
    statement="Dropping title-content pairs that a teacher scores low makes a better embedder.",
    paper="gte-Qwen2-7B-instruct scores below 0.4 are dropped; 1,766M pairs stay; no ablation is published.",
    published="no number",
    arms="weak.drop_percentile: 0 and the tier's; everything else is the same.",
    rule=f"Reproduced if filtered minus unfiltered of the final mean main metric is above 0 with its 95 % interval. {FEW_SEEDS}",
    evaluate=filter_helps,
)
