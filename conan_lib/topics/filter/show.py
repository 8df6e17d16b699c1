"""The teachers' scores of weak pairs, and the cut below which pairs are dropped."""

import numpy as np

from conan_lib.data import records
from conan_lib.data.teacher import cuts, scores_of
from conan_lib.errors import UserError
from conan_lib.findings.blocks import figure
from conan_lib.findings.grids import grid_blocks
from conan_lib.findings.plots import GREY, PALETTE, Drawing, style
from conan_lib.findings.run import Run
from conan_lib.stages import Stage


def show(run: Run) -> dict:
    caption = "Scores of the teachers and the cut."
    return {
        "scores": figure(run, "teacher_scores", caption, ("teacher", "weak"), lambda _, weak: teacher_scores(weak),
                         lambda _, weak: dropped(weak)),
        "grid": grid_blocks(run, "data"),
    }  # fmt: skip


def dropped(stage: Stage) -> str:
    """Stage `weak`: how many pairs the filter dropped of all, where the percentile counts the scored ones alone."""
    found, percentile = stage.results, stage.weak.drop_percentile
    lost = found["pairs"] - found["pairs_kept"]
    return (
        f"{lost:,} of {found['pairs']:,} pairs are dropped ({100 * lost / found['pairs']:.1f} %): the lowest {percentile:g} % of those "
        "that a teacher scored. A pair without a score is kept."
    )


def teacher_scores(stage: Stage) -> Drawing:
    """Stage `weak`: the distribution of each teacher's scores, with the cut below which pairs are dropped.

    Raises:
        UserError: no pair was scored.
    """
    rows = records.Rows(stage.inputs["teacher"].path / "scores.parquet")
    percentile = stage.weak.drop_percentile
    found, cut = scores_of(rows), cuts(rows, percentile)
    if not cut:
        raise UserError("teacher: no pair was scored, so there is no distribution to draw: raise teacher.budget or name a teacher")
    with style():
        drawing = Drawing(figsize=(4.3 * len(cut), 2.9))
        for axis, (teacher, threshold), colour in zip(
            drawing.subplots(1, len(cut), squeeze=False).flat, cut.items(), PALETTE, strict=False
        ):
            scores = found[teacher]
            bins = np.linspace(scores.min(), scores.max(), 31)
            axis.hist(scores[scores < threshold], bins, color=GREY, label=f"dropped ({np.sum(scores < threshold):,})")
            axis.hist(scores[scores >= threshold], bins, color=colour, label=f"kept ({np.sum(scores >= threshold):,})")
            axis.set_ylim(0, 1.4 * axis.get_ylim()[1])  # room for the legend
            axis.axvline(threshold, ymax=0.7, color=PALETTE[1], linestyle="--", label=f"{percentile:g}th percentile: {threshold:.3f}")
            axis.set(title=teacher, xlabel="cosine of title and content", ylabel="pairs")
            axis.legend(fontsize=8)
        return drawing
