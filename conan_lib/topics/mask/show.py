"""Figures of the soft mask: what it looks like at several points of its schedule, how alpha and the open share of the future grow, and how
far the model's vectors move with them."""

import math

import torch

from conan_lib.attention import alpha_at, mask_matrix
from conan_lib.findings.blocks import Block, Figure, Missing, figure
from conan_lib.findings.grids import grid_blocks
from conan_lib.findings.plots import GREY, PALETTE, Drawing, style
from conan_lib.findings.run import Run
from conan_lib.model.backbone import has_weights
from conan_lib.stages import Stage
from conan_lib.topics.mask.measure import shift_artefact, stored_shift
from conan_lib.training.softmask_callback import SoftMaskCallback

GRIDS = ("masks", "confirm", "readings", "curves")
"""Grids about the mask alone; claim C1 rests on the first, which every report names."""
RATIOS = ("l/i", "i/l")
IN_WORDS = {"l/i": "length / row", "i/l": "row / length"}
SCHEDULES = {"linear": "t/τ", "quadratic": "(t/τ)²", "inverse_quadratic": "1 − (1 − t/τ)²"}
LENGTH = 40
"""Tokens of the text whose opening is drawn."""
POINTS = (0.0, 0.01, 0.1, 0.5, 1.0)


def show(run: Run) -> dict:
    return {
        "opening": opening_block(run),
        "shift": shift_block(run),
        "mask": figure(run, "mask", "The soft mask M at several steps.", ("weak",), mask_heatmaps, lambda _: early_rows()),
        "grid": [block for name in GRIDS if name == "masks" or name in run.ablations for block in grid_blocks(run, name)],
    }


def opened(alpha: float, reading: str, ratio: str, length: int = LENGTH) -> float:
    """Share of the attention that lies on the future, mean over rows, over that of a bidirectional mask; all logits are 1.

    1 is bidirectional, 0 causal. The reading `logit` multiplies the logits by M, `weight` the weights.
    """
    future = torch.ones(length, length).triu(1).bool()
    mask = mask_matrix(alpha, torch.ones(1, length, dtype=torch.long), ratio)[0]
    weights = torch.exp(mask) if reading == "logit" else math.e * mask
    share, whole = ((w * future).sum(1) / w.sum(1) for w in (weights, torch.ones_like(mask)))
    return (share.sum() / whole.sum()).item()


def opening_block(run: Run) -> Figure:
    """How soon the mask opens: arithmetic, so it stands in the report of every run."""
    alphas = [0.0, *(10 ** (step / 20 - 3) for step in range(61))]
    with style():
        drawing = Drawing(figsize=(7.6, 3.2))
        axis = drawing.subplots()
        for colour, reading in zip(PALETTE, ("weight", "logit"), strict=False):
            for ratio, line in zip(RATIOS, ("-", "--"), strict=True):
                label = f"{'weight' if reading == 'weight' else 'logit, as printed'}; factor {IN_WORDS[ratio]}"
                axis.plot(alphas, [100 * opened(alpha, reading, ratio) for alpha in alphas], line, color=colour, label=label)
        axis.axvline(0.01, color=GREY, linestyle=":")
        axis.set(xlabel="alpha", ylabel="of the way from causal\nto bidirectional (%)", ylim=(-3, 103))
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    takeaway = (
        f"The opening is front-loaded: at alpha = 0.01 attention has gone {100 * opened(0.01, 'weight', 'l/i'):.0f} % of the way from "
        "causal to bidirectional. The form as printed, which multiplies logits, starts at "
        f"{100 * opened(0.0, 'logit', 'l/i'):.0f} %: it is not causal."
    )
    caption = f"Share of attention on the future, {LENGTH} tokens with equal logits, mean over rows: arithmetic, no model."
    return Figure("opening", caption, drawing, ("paper",), takeaway=takeaway)


def early_rows(length: int = 16, alpha: float = 0.1) -> str:
    """How far the first row and the last but one of a text have opened."""
    first, late = (min(alpha * length / row, 1) for row in (1, length - 1))
    return (
        f"With the factor length / row, early rows open first: at alpha = {alpha} and {length} tokens, row 1 sees its future with weight "
        f"{first:.1f}, row {length - 1} with {late:.2f}."
    )


def mask_heatmaps(stage: Stage, length: int = 16) -> Drawing:
    """M at several steps of the stage's schedule, a row of panels for each ratio. `stage` has a `weak` section; `length` is l in tokens."""
    weak = stage.weak
    alpha = SoftMaskCallback(weak.soft_mask, weak.max_steps).alpha
    one = torch.ones(1, length, dtype=torch.long)
    steps = sorted({round(point * weak.max_steps) for point in POINTS})
    with style():
        drawing = Drawing(figsize=(2.15 * len(steps) + 0.6, 4.9))
        axes = drawing.subplots(len(RATIOS), len(steps), sharex=True, sharey=True, squeeze=False)
        for ratio, row in zip(RATIOS, axes, strict=True):
            for step, axis in zip(steps, row, strict=True):
                image = axis.imshow(
                    mask_matrix(alpha(step), one, ratio)[0].numpy(), vmin=0, vmax=1, cmap="cividis",
                    extent=(0.5, length + 0.5, length + 0.5, 0.5),
                )  # fmt: skip
                axis.grid(False)
                axis.set_title(f"t = {step}, α = {alpha(step):.2f}")
            row[0].set_ylabel(f"factor {IN_WORDS[ratio]}\nrow i (query)")
        for axis in axes[-1]:
            axis.set_xlabel("column j (key)")
        drawing.colorbar(image, ax=axes, label="M", fraction=0.03)
        return drawing


def open_at(share: float = 0.1, length: int = 64) -> str:
    """How open the future is at a share of the steps under each schedule."""
    future = torch.ones(length, length).triu(1).bool()
    masks = {name: mask_matrix(alpha_at(share, 1, name), torch.ones(1, length, dtype=torch.long), "l/i") for name in SCHEDULES}
    means = ", ".join(f"{100 * mask[0][future].mean():.0f} % with {name.replace('_', ' ')} alpha" for name, mask in masks.items())
    return f"The schedules differ in how soon the future opens: at {100 * share:.0f} % of the steps {means}, in {length} tokens."


def alpha_schedules(stage: Stage, length: int = 64) -> Drawing:
    """alpha(t) of the three schedules (the stage's own drawn thick), and the mean of M over the future against t/tau, for each ratio.

    The second panel is the finding that the opening is front-loaded under l/i: early rows open at once, because l/i is large there.
    """
    weak = stage.weak
    steps = range(weak.max_steps + 1)
    one = torch.ones(1, length, dtype=torch.long)
    future = torch.ones(length, length).triu(1).bool()
    grid = [i / 100 for i in range(101)]
    with style():
        drawing = Drawing(figsize=(8.4, 3.1))
        left, right = drawing.subplots(1, 2)
        for colour, (schedule, formula) in zip(PALETTE, SCHEDULES.items(), strict=False):
            own = weak.soft_mask.attention == "soft" and weak.soft_mask.schedule == schedule
            alphas = [alpha_at(step, weak.max_steps, schedule) for step in steps]
            left.plot(steps, alphas, color=colour, linewidth=3 if own else 1.4, label=formula + (" (this run)" if own else ""))
            for ratio, line in zip(RATIOS, ("-", "--"), strict=True):
                opened = [mask_matrix(alpha_at(point, 1, schedule), one, ratio)[0][future].mean().item() for point in grid]
                right.plot(grid, opened, line, color=colour, label=IN_WORDS[ratio] if schedule == "linear" else None)
        left.set(title="the schedule", xlabel="optimiser step t", ylabel="α(t)", ylim=(-0.03, 1.05))
        left.legend()
        right.set(title=f"how far the future is open, l = {length}", xlabel="t/τ", ylabel="mean of M over j > i", ylim=(-0.03, 1.05))
        right.legend(title="factor beside alpha")
        return drawing


def shift_block(run: Run) -> Block:
    """How far the run's language model moves as the mask opens, measured once and kept."""
    caption = "Change of text vectors against causal, before any training: the mask alone moves them."
    if why := run.unfinished("heldout", "sft"):
        return Missing(caption, why)
    if not shift_artefact(run.stages["weak"]).finished and not has_weights(run.stages["sft"].path / "model"):
        return Missing(caption, f"the weights of {run.key('sft')} are not here, and it was not measured where they were")
    rows = stored_shift(run.stages["weak"])
    share = {(row["reading"], row["ratio"], row["schedule"], row["fraction"]): row["shift"] for row in rows}
    whole = share["weight", "l/i", "linear", 1.0]
    takeaway = (
        "The soft mask is front-loaded: at alpha = 0.01 the vectors have made "
        f"{100 * share['weight', 'l/i', 'linear', 0.01] / whole:.0f} % of their move from causal to bidirectional. The form as "
        "printed, which multiplies logits, makes "
        f"{100 * share['logit', 'l/i', 'linear', 0.0] / whole:.0f} % of it before the first step: it is not causal."
    )
    return Figure("shift", caption, draw_shift(rows), (run.key("sft"), run.key("heldout")), takeaway=takeaway)


def hidden_state_shift(stage: Stage) -> Drawing:
    """`draw_shift` of the model that the stage starts from. The first drawing measures; `stage` needs its inputs finished, not itself."""
    return draw_shift(stored_shift(stage))


def draw_shift(rows: list[dict]) -> Drawing:
    """How far vectors have moved from causal, over t/tau: a panel for each schedule; dotted: the abrupt switch."""
    abrupt = next(row["shift"] for row in rows if (row["reading"], row["ratio"], row["alpha"]) == ("weight", "l/i", 1))
    with style():
        drawing = Drawing(figsize=(9.6, 3.6))
        axes = drawing.subplots(1, len(SCHEDULES), sharex=True, sharey=True)
        for axis, (schedule, formula) in zip(axes, SCHEDULES.items(), strict=True):
            axis.axhline(100 * abrupt, color=GREY, linestyle=":", label="abrupt bidirectional")
            for colour, reading in zip(PALETTE, ("weight", "logit"), strict=False):
                for ratio, line in zip(RATIOS, ("-", "--"), strict=True):
                    own = [r for r in rows if (r["reading"], r["ratio"], r["schedule"]) == (reading, ratio, schedule)]
                    x, y = [r["fraction"] for r in own], [100 * r["shift"] for r in own]
                    axis.plot(x, y, line, color=colour, marker=".", markersize=4, label=f"{reading}, {IN_WORDS[ratio]}")
            axis.set(title=f"α = {formula}", xlabel="t/τ", ylim=(-0.05 * 100 * abrupt, None))
        axes[0].set_ylabel("change against causal (%)")
        drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        return drawing
