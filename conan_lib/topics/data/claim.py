"""C13: news and parallel text in pretraining help."""

from conan_lib.findings.ablation import Ablation
from conan_lib.findings.claim import FEW_SEEDS, Claim, Finding
from conan_lib.findings.grid_claims import MEAN, finding, from_grid, text
from conan_lib.findings.run import Run


@from_grid("data", "all", "no news", "no pairs")
def news_and_pairs_help(ablation: Ablation) -> Finding:
    """C13: pretraining with everything minus without news, and minus without pairs; the smaller effect stands, both must hold."""
    found = {name: ablation.contrast({"all": 1, name: -1}, MEAN) for name in ("no news", "no pairs")}
    name, one = min(found.items(), key=lambda item: item[1].value)
    details = tuple(f"all minus {other} {text(estimate)}" for other, estimate in found.items())
    return finding(one, f"the smaller effect, all minus {name}", list(found.values()), details=details)


def with_own_pretraining(run: Run) -> Finding:
    """C13: from the grid; there is nothing to compare where the language model was pretrained elsewhere."""
    if not run.params.trains("pretrain"):
        return Finding("not run", "the pretraining is that of the start, made elsewhere")
    return news_and_pairs_help(run)


CLAIM = Claim(
    "C13",
    name="News and parallel text help",
    statement="News and multilingual pairs in pretraining make a better embedder.",
    paper="Section on pretraining data: stated; no ablation is published.",
    published="no number",
    arms="pretrain.news and pretrain.parallel on and off; everything after is the same.",
    rule=f"Reproduced if on minus off of the final mean main metric is above 0 with its 95 % interval. {FEW_SEEDS}",
    evaluate=with_own_pretraining,
)
