"""Pins: what was measured on reviews stands beside the measures on held-out verses, over the seeds that have run, and is carried with the
report; where it was not run there is no table."""

import pytest

from conan_lib.findings.run import Run
from conan_lib.params import on_reviews, with_seed
from conan_lib.stages import open_stage
from conan_lib.topics.mixing.show import reviews
from tests.handmade import WRITERS, rewrite


def measure(run: Run, seed: int, gain: float) -> str:
    """Finish stage mix on reviews with one seed; its gain in R@1 is `gain`, give or take .02."""
    stage = open_stage("mix", on_reviews(with_seed(run.params, seed)))
    with stage.work() as work:
        work.commit(WRITERS["mix"](stage))
    mixing = Run.of(stage.params, "").file("mix", "mixing.json") | {"texts": "MultiEmo reviews"}
    mixing["with CLR - without CLR"]["mean_r1"] = {"difference": gain, "low": gain - 0.02, "high": gain + 0.02}
    rewrite(stage, "mixing.json", mixing)
    return f"mix/{stage.key}"


def test_reviews_are_a_table_over_their_seeds(fake_run):
    run = Run.open(fake_run())
    assert reviews(run) == []
    for seed in (1, 2):
        fake_run(seed=seed)
    keys = [measure(run, seed, gain) for seed, gain in ((0, 0.04), (1, 0.05), (2, 0.06))]
    (table,) = reviews(Run.open(run.params_file))
    assert table.sources == tuple(keys) and "MultiEmo reviews" in table.caption and "3 seeds" in table.caption
    row = table.frame.set_index("measure").loc["mean R@1"]
    half = (0.02**2 + (4.303 * 0.01 / 3**0.5) ** 2) ** 0.5  # of the texts and of the seeds
    assert [row["difference low"], row["difference"], row["difference high"]] == pytest.approx([0.05 - half, 0.05, 0.05 + half], abs=1e-4)
    assert set(keys) <= {f"{stage.artefact.stage}/{stage.key}" for stage in run.evidence()}
    assert run.key("mix") not in keys
