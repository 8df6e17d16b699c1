"""Whether full fine-tuning beats LoRA with the soft mask, and loses to it without."""

from conan_lib.findings.blocks import Figure
from conan_lib.findings.grids import grid_blocks, side_by_side, with_paper
from conan_lib.findings.published import published
from conan_lib.findings.run import Run
from conan_lib.findings.topic import Topic
from conan_lib.findings.trained import trained_in
from conan_lib.topics.training_gap.claim import CLAIM, LIKE

ROWS = {f"LoRA, rank {r}": (f"LoRA r{r}", f"LoRA r{r} + SM") for r in (16, 32, 64)} | {
    "full": ("full", "full + SM"),
    "LoRA, rank 32, with embeddings": (LIKE, f"{LIKE} + SM"),
}
"""Row of the paper's table, and one of ours -> our cells without and with the soft mask."""


def slopes(run: Run) -> Figure | str:
    """Table 6 beside our arms, with and without the mask; empty where no seed of the grid has finished."""
    ablation, ours = run.ablations.get("lora"), {}
    for row, cells in ROWS.items():
        for cell, arm in zip(cells, ("", " + SM"), strict=True):
            if ablation and cell in ablation.grid.names and (one := ablation.mean(cell, "mean")):
                ours[f"{row}{arm}"] = (100 * one.value, 100 * one.low, 100 * one.high)
    if not ours:
        return ""
    table = published()["training_gap"]
    theirs = {f"{row[0]}{arm}": value for row in table.rows for value, arm in zip(row[1:3], ("", " + SM"), strict=True)}
    drawing = side_by_side(theirs, ours, "the paper: Table 6, English", "ours: mean of all tasks' main metrics, x 100")
    like = any(name.startswith("LoRA, rank 32, with") for name in ours)
    says = "In the paper the mask lifts full fine-tuning alone. " + (
        "Our LoRA with embeddings trains the token embeddings too; the paper does not say whether its own does."
        if like
        else "These LoRA arms of ours leave the token embeddings as they are, so ours are not like for like."
    )
    return Figure(
        "table_6",
        "Table 6 beside our grid.",
        drawing,
        ("paper", ablation.grid.file),
        takeaway=says,
        numbers={f"paper_{table.id}": {}},
        model=trained_in(ablation),
    )


def show(run: Run) -> dict:
    arms = (", without soft mask", ", with soft mask")
    return {
        "slopes": slopes(run),
        "paper": with_paper(run, published()["training_gap"], "lora", ROWS, arms),
        "grid": grid_blocks(run, "lora"),
    }


TOPIC = Topic("training_gap", "Training gap: LoRA and full fine-tuning", "Training gap", 100, show, claims=(CLAIM,), inconsistencies=(1,))
