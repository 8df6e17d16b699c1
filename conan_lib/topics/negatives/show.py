"""Hard negatives over training: how hard those in use are, and how many were swapped."""

import numpy as np

from conan_lib.errors import UserError
from conan_lib.findings.blocks import figure
from conan_lib.findings.curves import scored
from conan_lib.findings.grids import grid_blocks
from conan_lib.findings.plots import GREY, PALETTE, Drawing, series, style
from conan_lib.findings.run import Run
from conan_lib.stages import Stage


def show(run: Run) -> dict:
    caption = "Dynamic hard negatives: mean score of those in use, and swaps."
    return {
        "negatives": figure(run, "negatives", caption, ("supervised",), negatives, first_and_last),
        "grid": grid_blocks(run, "negatives"),
    }


def first_and_last(stage: Stage) -> str:
    """How hard the negatives of each task were at first and at last, and how many were swapped."""
    rows = scored(stage)
    tasks: dict[str, list[float]] = {}
    for row in rows:
        tasks.setdefault(row.get("task", "all tasks"), []).append(row["mean_score"])
    curves = "; ".join(f"{task} {scores[0]:.2f} to {scores[-1]:.2f}" for task, scores in tasks.items())
    swaps, used = (sum(row.get(name) or 0 for row in rows) for name in ("swaps", "swapped_in"))
    swapped = f"{swaps:,} were swapped, and a swapped-in one was used {used:,} times" if swaps else "None was swapped"
    return f"Mean cosine of the negatives in use, first to last: {curves}. {swapped}."


def negatives(stage: Stage) -> Drawing:
    """Dynamic hard negatives over steps: mean cosine of those in use by task; swaps, and uses of swapped-in ones."""
    rows = series(stage, "negatives.json")
    if not rows:
        raise UserError(
            f"{stage.path / 'negatives.json'}: no rows, so no hard negatives were used: give retrieval or clr a share of the tasks"
        )
    steps = [row["step"] for row in rows]
    with style():
        drawing = Drawing(figsize=(8.4, 2.9))
        scores, swaps = drawing.subplots(1, 2)
        for task in sorted({row.get("task", "all tasks") for row in rows}):  # their negatives differ in kind
            own = [row for row in rows if (row.get("task", "all tasks")) == task]
            scores.plot([row["step"] for row in own], [row["mean_score"] for row in own], marker="o", markersize=3, label=task)
        scores.legend()
        scores.set(title="how hard the negatives are", xlabel="optimiser step", ylabel="mean cosine with the anchor")
        for colour, field, label in ((PALETTE[1], "swaps", "swaps (take effect at the next visit)"),
                                     (PALETTE[3], "swapped_in", "swapped-in negatives used")):  # fmt: skip
            swaps.plot(steps, np.cumsum([row.get(field) or 0 for row in rows]), color=colour, label=label)
        counted = sum(row.get("swaps") or 0 for row in rows)
        swaps.set(title="negatives swapped, summed up", xlabel="optimiser step", ylabel="number so far", ylim=(0, None if counted else 1))
        swaps.yaxis.get_major_locator().set_params(integer=True)
        if counted:
            swaps.legend()
        else:
            swaps.text(0.5, 0.5, "no negative was swapped", transform=swaps.transAxes, ha="center", color=GREY)
        if any(row.get("exhausted") for row in rows):
            share = swaps.twinx()
            share.plot(steps, [100 * (row.get("exhausted") or 0) for row in rows], color=GREY, linestyle="--")
            share.set_ylabel("exhausted pools (%)", color=GREY)
            share.set_ylim(0, 100)
            share.grid(False)
            share.spines["right"].set_visible(True)
        return drawing
