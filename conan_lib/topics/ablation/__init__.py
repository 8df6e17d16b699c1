"""What each of the three parts adds: soft mask (SM), cross-lingual retrieval (CLR), dynamic hard negatives (DHNM)."""

from conan_lib.findings.grids import HOW, grid_blocks, other_grids, with_paper
from conan_lib.findings.published import published
from conan_lib.findings.run import Run
from conan_lib.findings.topic import Topic
from conan_lib.topics.ablation.claim import CLAIM
from conan_lib.topics.ablation.effects import main_effects
from conan_lib.topics.mask.show import GRIDS as MASKS

PLACED = (*MASKS, "data", "negatives", "sm_clr_dhnm", "lora", "alpha")
"""Grids that stand in a section of their own; any other one stands here."""


def show(run: Run) -> dict:
    paper, ablation = published()["ablation"], run.ablations.get("sm_clr_dhnm")
    effects = ablation and main_effects(ablation)
    return {
        "paper": with_paper(run, paper, "sm_clr_dhnm", {row[0]: (row[0],) for row in paper.rows}),
        "how": HOW,
        "grid": [*grid_blocks(run, "sm_clr_dhnm"), *([effects] if effects else [])],
        "others": other_grids(run, PLACED),
    }


TOPIC = Topic("ablation", "Ablation of the three parts", "Ablation", 90, show, claims=(CLAIM,), bears_on=("C1", "C3", "C4"),
              inconsistencies=(1, 3))  # fmt: skip
