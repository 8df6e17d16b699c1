"""Whether full fine-tuning beats LoRA with the soft mask, and loses to it without."""

from conan_lib.findings.grids import grid_blocks, with_paper
from conan_lib.findings.published import published
from conan_lib.findings.run import Run
from conan_lib.findings.topic import Topic
from conan_lib.topics.training_gap.claim import CLAIM

ROWS = {f"LoRA, rank {r}": (f"LoRA r{r}", f"LoRA r{r} + SM") for r in (16, 32, 64)} | {"full": ("full", "full + SM")}
"""Row of the paper's table -> our cells without and with the soft mask."""


def show(run: Run) -> dict:
    arms = (", without soft mask", ", with soft mask")
    return {"paper": with_paper(run, published()["training_gap"], "lora", ROWS, arms), "grid": grid_blocks(run, "lora")}


TOPIC = Topic("training_gap", "Training gap: LoRA and full fine-tuning", "Training gap", 100, show, claims=(CLAIM,), inconsistencies=(1,))
