"""C7: a linear alpha is best."""

from conan_lib.findings.ablation import Ablation
from conan_lib.findings.claim import FEW_SEEDS, Claim, Finding
from conan_lib.findings.grid_claims import MEAN, finding, from_grid, turned


@from_grid("alpha", "linear", "quadratic", "inverse quadratic")
def linear_is_best(ablation: Ablation) -> Finding:
    """C7: linear minus the better of the other two; both comparisons corrected together."""
    others = {name: turned(one) for name, one in ablation.against(MEAN, "linear", ("quadratic", "inverse quadratic")).items()}
    name, one = min(others.items(), key=lambda item: item[1].value)
    return finding(one, f"linear minus {name}, the better of the other two", list(others.values()))


CLAIM = Claim(
    "C7",
    name="A linear alpha is best",
    statement="alpha(t) = t/tau beats (t/tau)^2 and 1 - (1 - t/tau)^2.",
    paper="Table 12, multilingual / en / zh: linear 61.73 / 70.41 / 70.99; quadratic 61.50 / 70.51 / 70.81; inverse 61.43 / 70.01 / 70.37. "
    "Quadratic is ahead in English.",
    published="Table 12: 61.73; 61.50, 61.43",
    arms="weak.soft_mask.schedule: linear, quadratic, inverse_quadratic; mean main metric of all local tasks.",
    rule=f"Reproduced if linear is above both others with a 95 % interval, corrected for two comparisons. {FEW_SEEDS}",
    evaluate=linear_is_best,
    inconsistencies=(8,),
)
