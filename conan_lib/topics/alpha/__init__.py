"""Which schedule of the soft mask is best."""

from conan_lib.findings.blocks import figure
from conan_lib.findings.grids import grid_blocks, with_paper
from conan_lib.findings.published import published
from conan_lib.findings.run import Run
from conan_lib.findings.topic import Topic
from conan_lib.topics.alpha.claim import CLAIM
from conan_lib.topics.mask.show import alpha_schedules, open_at

ROWS = {"t/tau": ("linear",), "(t/tau)^2": ("quadratic",), "1-(1-t/tau)^2": ("inverse quadratic",)}
"""Row of the paper's table -> our cell."""


def show(run: Run) -> dict:
    ablation = run.ablations.get("alpha")
    alone = ablation is not None and ablation.grid.params.target == "score_weak"
    return {
        "how": "So does our grid, which ends with the weak stage." if alone else "Our grid compares them with all three parts.",
        "paper": with_paper(run, published()["alpha"], "alpha", ROWS),
        "schedules": figure(run, "alpha", "Schedules of alpha, and how open the mask is.", ("weak",), alpha_schedules, lambda _: open_at()),
        "grid": grid_blocks(run, "alpha"),
    }


TOPIC = Topic("alpha", "Schedules of alpha", "Alpha", 110, show, "05_weak", claims=(CLAIM,), inconsistencies=(8,))
