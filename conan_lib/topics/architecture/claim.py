"""C12: the published sizes make a model of the published number of parameters."""

from conan_lib.findings.claim import Claim, Finding
from conan_lib.findings.published import parameters
from conan_lib.findings.run import Run
from conan_lib.model.backbone import count_parameters
from conan_lib.params.model import BackboneParams, TokenizerParams


def parameters_exact(run: Run) -> Finding:
    """C12: the paper's sizes give the leaderboard's parameter count, to the unit; counted on the meta device."""
    count, published = count_parameters(BackboneParams(), TokenizerParams().vocab_size), parameters()
    return Finding(
        "reproduced" if count == published else "contradicted",
        f"{count:,} counted, {published:,} published",
        ("exact arithmetic, no seed",),
        count,
        "parameters",
        keys=("conan_lib.model.backbone",),
        model="no model is trained for it",
    )


CLAIM = Claim(
    "C12",
    name="1,499,205,120 parameters",
    statement="The published sizes make a model of this many parameters.",
    paper='"1.4B" in the text; 1503M in Table 5; 1,499,205,120 on the public leaderboard.',
    published="leaderboard: 1,499,205,120",
    arms="A Llama of 8 layers, hidden 3584, 32 heads, 8 KV heads, FFN 8192, 150,000 tied embeddings, built on the meta device.",
    rule="Reproduced if equal to the unit; contradicted if not.",
    evaluate=parameters_exact,
    inconsistencies=(4,),
    caveat="arithmetic: no model is trained for it",
)
