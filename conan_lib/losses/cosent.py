"""CoSENT: pairs of texts must be ranked by cosine as their gold scores rank them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from conan_lib.losses.checks import above_zero


def cosent(scores: Tensor, gold: Tensor, temperature: float) -> Tensor:
    """log(1 + sum over pairs with gold_ij > gold_kl of exp((cos_kl - cos_ij) / tau)): equation `cosent`.

    Args:
        scores: (B,) cosine of each pair.
        gold: (B,) gold similarity of each pair, any scale; only the order counts, and ties say nothing.
        temperature: tau > 0. Not published; 1/20 is the reference implementation's.

    Raises:
        ValueError: other shapes, a temperature of 0 or below, or a gold that is not finite. Where that check would make the program wait
            for its device, or stop torch.compile, the loss is NaN instead.
    """
    above_zero("cosent", temperature)
    if scores.ndim != 1 or gold.shape != scores.shape:
        raise ValueError(f"cosent: scores and gold must both have shape (B,), not {tuple(scores.shape)} and {tuple(gold.shape)}")
    known = gold.isfinite().all()
    if gold.device.type == "cpu" and not torch.compiler.is_compiling() and not known:
        raise ValueError("cosent: gold holds NaN or infinity: leave out pairs without a score")
    scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    scores = scores / temperature
    wrong_way = scores[None, :] - scores[:, None]
    wrong_way = wrong_way.masked_fill(gold[:, None] <= gold[None, :], -torch.inf)
    loss = torch.logsumexp(F.pad(wrong_way.flatten(), (1, 0)), dim=0)  # the padded zero is the 1 inside the logarithm
    return loss.masked_fill(~known, torch.nan)
