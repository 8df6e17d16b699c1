"""Grids in the report: differences are paired by query and seed and equal a double loop; a family is corrected together; every number names
its artefact; what was not run says so with its command, and with the one that brings its committed results; claims follow their rules on
hand-made grids; a broken grid file breaks no report; the same artefacts give the same bytes."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from conan_lib.evaluation.metrics import MAIN_METRIC
from conan_lib.findings.ablation import Ablation
from conan_lib.findings.curves import CURVES
from conan_lib.findings.grids import METRIC_NAMES, ablation_table, write_ablation
from conan_lib.findings.over_seeds import holm
from conan_lib.findings.run import Run
from conan_lib.findings.trained import trained_in
from conan_lib.grids import open_grid
from conan_lib.report.build import build_report
from conan_lib.report.evidence import publish
from conan_lib.run.grid import lacking
from conan_lib.topics import claims, judge
from conan_lib.topics.training_gap import slopes
from tests.small_grid import FILE, GRID, commit, write_grid

pytestmark = pytest.mark.usefixtures("one_environment")
ROOT = Path(__file__).parents[2]
OUR = {path.stem: path for path in (ROOT / "params/grids").glob("*.yaml")}


def finish_cells(grid, recall: dict[str, float], seeds: dict[str, tuple[int, ...]] | None = None) -> None:
    """Commit what each named cell lacks, with all seeds or those given for it; its scores are around its number."""
    for cell in grid.cells:
        if cell.name in recall and cell.seed in (seeds or {}).get(cell.name, grid.params.seeds):
            for task in lacking([cell]):
                commit(task.stages[0], recall[cell.name])


@pytest.fixture
def small(project):
    """An ablation of a finished small grid: causal is 0.1 below soft."""
    write_grid(project, GRID.replace("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    finish_cells(open_grid(FILE), {"soft": 0.3, "causal": 0.2})
    return Ablation(open_grid(FILE))


@pytest.fixture
def ours(fake_run, tmp_path):
    """Lay our own grid files out beside the tiny tier's, finish named cells of one of them, and return the verdicts."""
    fake_run(
        "corpus", "sets", "tokenizer", "pretrain", "sft", "teacher", "weak", "mine", "supervised"
    )  # a grid's baseline is the tier's run

    def evaluate(name: str, recall: dict[str, float], **seeds: tuple[int, ...]) -> dict:
        path = tmp_path / "params/grids" / OUR[name].name
        path.parent.mkdir(exist_ok=True)
        path.write_text(OUR[name].read_text())
        finish_cells(open_grid(f"params/grids/{name}.yaml"), recall, seeds)
        return {claim.id: finding for claim, finding in judge(Run.open("params/tiny.yaml"))}

    return evaluate


def test_a_difference_equals_a_double_loop(small):
    total = []
    for seed in (0, 1, 2):
        for kind, metric in MAIN_METRIC.items():
            both = [json.loads((small.finished[name][seed].score.path / "scores.json").read_text()) for name in ("causal", "soft")]
            main = [
                [row["value"] for row in rows if (row["type"], row["metric"]) == (kind, metric) and row["subset"] in ("default", "mean")]
                for rows in both
            ]
            total += [one - other for one, other in zip(*main, strict=True)]
    assert len(total) == 3 * 4
    assert small.against("mean")["causal"].value == pytest.approx(np.mean(total)) and np.mean(total) < -0.04


def test_pairing_takes_the_queries_out(small):
    """The cells differ by the same amount on nearly every query: the difference is far surer than either mean."""
    one, mean = small.against("crosslingual")["causal"], small.mean("soft", "crosslingual")
    assert one.high - one.low < 0.3 * (mean.high - mean.low) and one.high < 0 and mean.low < mean.value < mean.high


def test_a_family_is_corrected_together(project):
    write_grid(project, GRID.replace("baseline", "  mixed: {weak: {batch_languages: mixed}}\nbaseline").replace("[0, 1]", "[0, 1, 2]"))
    finish_cells(open_grid(FILE), {"soft": 0.3, "causal": 0.298, "mixed": 0.25})
    found = Ablation(open_grid(FILE)).against("crosslingual")
    assert [one.corrected for one in found.values()] == holm([one.p for one in found.values()])


def test_only_shared_seeds_are_paired(project):
    write_grid(project)
    grid = open_grid(FILE)
    finish_cells(grid, {"soft": 0.3})
    ablation = Ablation(grid)
    assert ablation.against("mean") == {} and ablation.mean("soft", "mean").seeds == 2 and len(ablation.missing) == 2
    for task in lacking([grid.of("causal")[1]]):
        commit(task.stages[0], 0.2)
    one = Ablation(grid).against("mean")["causal"]
    assert one.seeds == 1 and one.keys == tuple(f"score/{grid.of(name)[1].score.key}" for name in ("causal", "soft"))


def test_a_grid_that_ends_with_the_weak_stage_is_read_alike_and_named_after_it(small, project):
    write_grid(project, GRID.replace("seeds: [0, 1]", "seeds: [0, 1, 2]\ntarget: score_weak"), "weak")
    grid = open_grid("params/grids/weak.yaml")
    finish_cells(grid, {"soft": 0.3, "causal": 0.2})
    (one, other), cell = (ablation.against("mean")["causal"] for ablation in (Ablation(grid), small)), grid.cells[0]
    assert (one.value, one.low, one.high) == (other.value, other.low, other.high) and not {"mine", "supervised"} & set(cell.stages)
    assert one.keys[0].startswith("score_weak/") and cell.model.name == "weak" and small.grid.cells[0].model.name == "supervised"
    recall = small.mean("soft", "crosslingual").value
    assert trained_in(Ablation(grid)) == f"grids of small: {cell.params.weak.max_steps:,} weak steps, cross-lingual R@10 {recall:.2f}"


def test_a_model_of_plain_training_is_named_with_the_steps_of_both_parts(small, project):
    text = GRID.replace("stages: [weak, mine, supervised]", "target: score_plain\nstages: [weak, mine, plain]")
    write_grid(project, text.replace("{weak: {soft_mask: {attention: causal}}}", "{plain: {rate: 2.0}}"), "plain")
    grid = open_grid("params/grids/plain.yaml")
    finish_cells(grid, {"soft": 0.3, "causal": 0.2})
    weak, supervised = grid.cells[0].params.weak, grid.cells[0].params.supervised
    assert trained_in(Ablation(grid)).startswith(f"grids of small: {weak.max_steps:,} + {supervised.max_steps:,} contrastive steps")


def test_the_files_of_a_grid(small, project):
    page = write_ablation(small)
    text = page.read_text()
    assert page == project / "runs/small/ablations/ablation_small.md" and (page.parent / "ablation_small.png").stat().st_size > 5000
    rows = list(csv.DictReader((page.parent / "ablation_small.csv").open()))
    assert [(row["metric"], row["cell"]) for row in rows] == [
        (METRIC_NAMES[metric], cell) for metric in ("mean", "crosslingual") for cell in ("soft", "causal")
    ]
    assert all((project / "artefacts" / key / "manifest.json").is_file() for row in rows for key in row["artefacts"].split())
    assert "All 6 runs finished (2 cells, seeds 0, 1, 2)" in text and "| no comparison |" in text and str(project) not in text
    assert not re.search(r"\|[ \t]*\|", text)
    before = {path.name: path.read_bytes() for path in page.parent.iterdir()}
    write_ablation(open_grid(FILE))
    assert {path.name: path.read_bytes() for path in page.parent.iterdir()} == before


def test_negatives_are_drawn_with_the_range_of_the_seeds(small):
    (axis,) = CURVES["negatives"].draw(small).axes
    assert [line.get_label() for line in axis.lines] == ["soft (3 seeds)", "causal (3 seeds)"]
    assert axis.lines[0].get_ydata() == pytest.approx([0.3 + step / 100 for step in range(1, 9)])


def test_the_weak_stage_is_drawn_step_by_step_from_what_has_finished(project):
    path = write_grid(project, GRID.replace("seeds:", "target: score_weak\ncurves: weak\nseeds:"))
    grid = open_grid(path)
    for cell in grid.cells:
        for task in [task for task in lacking([cell]) if (cell.name, task.stages[0].name) != ("causal", "curve")]:
            commit(task.stages[0], {"soft": 0.3, "causal": 0.2}[cell.name])
    ablation = Ablation(open_grid(path))
    assert [str(cell) for cell in ablation.missing] == ["causal (seed 0)", "causal (seed 1)"]
    panels = {axis.get_title("left"): axis.lines for axis in CURVES["weak"].draw(ablation.traced).axes}
    assert [len(lines) for lines in panels.values()] == [1] * 6, "one cell has its curve"
    assert panels["gradient norm"][0].get_ydata() == pytest.approx([0.3 + 0.5] * 8) and list(panels["loss"][0].get_xdata())[:2] == [1, 2]
    (line,) = panels["nDCG@10, development sets"]
    assert line.get_xydata() == pytest.approx(np.array([[s, (0.3 + s / 10) / 2] for s in (0, 4, 8)]))
    assert panels["distance from the start (%)"][0].get_ydata() == pytest.approx([0, 4, 8])
    page = write_ablation(ablation)
    assert "![ablation_small_weak](ablation_small_weak.png)" in page.read_text() and (page.parent / "ablation_small_weak.png").is_file()
    assert "2 of 4 runs finished; not run: causal (seed 0), causal (seed 1)" in page.read_text()
    rows = list(csv.DictReader((page.parent / "ablation_small_steps.csv").open()))
    for title, (line,) in panels.items():
        points = [(float(row["step"]), float(row["soft"])) for row in rows if row["measured"] == title]
        assert line.get_xydata() == pytest.approx(np.array(points)), "the table has what is drawn"


def test_scores_without_their_training_are_compared_and_not_drawn_step_by_step(project):
    """As after `conan-lib unpack` of a parcel of scores."""
    path = write_grid(project, GRID.replace("seeds:", "target: score_weak\ncurves: weak\nseeds:"))
    cells = open_grid(path).cells
    for cell in cells:
        for task in lacking([cell]):
            commit(task.stages[0], 0.2)
    for cell in cells:
        shutil.rmtree(cell.model.path, ignore_errors=True)
        if cell.name == "soft":
            shutil.rmtree(cell.stages["curve"].path)
    ablation = Ablation(open_grid(path))
    assert set(ablation.traced.finished["causal"]) == set(ablation.finished["soft"]) and not ablation.traced.finished["soft"]
    write_ablation(ablation)
    for cell in cells:
        shutil.rmtree(cell.stages["curve"].path, ignore_errors=True)
    page = write_ablation(Ablation(open_grid(path)))
    assert Ablation(open_grid(path)).traced is None and "ablation_small_weak" not in page.read_text()


def test_a_grid_that_was_not_run_says_how(ours):
    found = ours("alpha", {})
    assert found["C7"].verdict == "not run" and found["C7"].text == "not run: `conan-lib run --grid params/grids/alpha.yaml --seeds 0,1,2`"
    assert found["C1"].text == "no grid masks for tier tiny"
    folder = build_report("params/tiny.yaml")
    for page in ("report.md", "index.html"):
        assert "conan-lib run --grid params/grids/alpha.yaml --seeds 0,1,2" in (folder / page).read_text()
    assert not (folder / "ablations").exists()


def test_a_grid_whose_results_are_committed_says_what_brings_them(small, project):
    """Where they are more than a cell that another grid shares, and are not here yet."""
    grid = small.grid
    for name, cells in (("other", grid.of("soft")), ("results", grid.cells[:2])):
        folder = project / "reports/small" / name
        folder.mkdir(parents=True)
        (folder / "index.json").write_text(json.dumps({"artefacts": [f"score/{cell.score.key}" for cell in cells]}))
    assert small.parcel is None and small.not_run == f"not run: `{grid.command}`"
    for cell in grid.cells:
        shutil.rmtree(cell.score.path)
    away = Ablation(open_grid(FILE))
    assert away.not_run == f"not run: `{grid.command}`; `conan-lib unpack reports/small/results` brings the committed results"


def test_a_run_grid_is_in_the_report_and_is_published_with_it(ours):
    ours("alpha", {"linear": 0.4, "quadratic": 0.3, "inverse quadratic": 0.2})
    folder = build_report("params/tiny.yaml")
    assert sorted(path.suffix for path in (folder / "ablations").iterdir()) == [".csv", ".md", ".png"]
    text = (folder / "report.md").read_text()
    assert "(ablations/ablation_alpha.png)" in text and "](ablations/ablation_alpha.csv)" in text and "Model: grids of" in text
    assert not (folder / "figures/ablation_alpha.svg").exists() and not (folder / "tables/ablation_alpha.csv").exists()
    assert 'href="ablations/ablation_alpha.csv"' in (folder / "index.html").read_text()
    for _ in range(2):  # over no report, and over its own
        published = publish("params/tiny.yaml", partial=True).folder
    assert {path.name for path in (published / "ablations").iterdir()} == {path.name for path in (folder / "ablations").iterdir()}


def test_a_broken_grid_breaks_no_report(ours, tmp_path):
    ours("alpha", {})
    (tmp_path / "params/grids/masks.yaml").write_text("name: masks\n")
    text = (build_report("params/tiny.yaml") / "report.md").read_text()
    assert "Grid params/grids/masks.yaml: title: Field required" in text and str(tmp_path) not in text


MASKS = {"weight + l/i": 0.4, "weight + i/l": 0.1, "logit + l/i": 0.1, "logit + i/l": 0.1, "abrupt": 0.3, "causal": 0.2}
DATA = {"all": 0.4, "no filter": 0.4, "no news": 0.3, "no pairs": 0.2}


@pytest.mark.parametrize(
    ("claim", "name", "recall", "verdict", "effect", "said"),
    [
        ("C1", "masks", MASKS, "reproduced", 0.1, "soft minus abrupt, the better"),
        ("C1", "masks", MASKS | {"abrupt": 0.5}, "contradicted", -0.1, "speaks against the claim"),
        ("C1", "masks", MASKS | {"abrupt": 0.4}, "undecided at this scale", 0, "the interval includes zero"),
        ("C7", "alpha", {"linear": 0.4, "quadratic": 0.2, "inverse quadratic": 0.3}, "reproduced", 0.1, "linear minus inverse quadratic"),
        ("C7", "alpha", {"linear": 0.4, "quadratic": 0.45, "inverse quadratic": 0.3}, "contradicted", -0.05, "linear minus quadratic"),
        ("C13", "data", DATA, "reproduced", 0.1, "the smaller effect, all minus no news"),
        ("C13", "data", DATA | {"no pairs": 0.45}, "contradicted", -0.05, "all minus no pairs"),
        ("C14", "data", DATA, "undecided at this scale", 0, "filtered minus unfiltered"),
        ("C14", "data", DATA | {"no filter": 0.3}, "reproduced", 0.1, "supports the claim"),
    ],
)
def test_claims_follow_their_rules(ours, claim, name, recall, verdict, effect, said):
    finding = ours(name, recall)[claim]
    assert (finding.verdict, finding.seeds) == (verdict, 3) and said in finding.text
    assert ("; power: a true difference of " in finding.text) == (verdict == "undecided at this scale"), "only these say what was in reach"
    assert finding.effect == pytest.approx(effect / 2, abs=0.004), "two of four tasks differ"
    assert finding.interval[0] <= finding.effect <= finding.interval[1] and all(key.startswith("score/") for key in finding.keys)


EIGHT = {"SM + CLR + DHNM": 0.5, "SM + CLR": 0.4, "SM + DHNM": 0.3, "SM": 0.3, "CLR + DHNM": 0.35, "CLR": 0.3, "DHNM": 0.2, "none": 0.1}


def test_all_three_against_the_best_other_cell_corrected_for_seven(ours):
    finding = ours("sm_clr_dhnm", EIGHT)["C5"]
    assert (
        finding.verdict == "reproduced"
        and "all three minus SM + CLR, the best other cell (minus SM + CLR, the best pair: +0.0" in finding.text
    )
    assert finding.effect == pytest.approx(0.1 / 2, abs=0.004)
    corrected = Ablation(open_grid("params/grids/sm_clr_dhnm.yaml")).against("mean")
    assert len(corrected) == 7 and f"corrected {corrected['SM + CLR'].corrected:.3f}" in finding.text


def test_all_three_below_a_single_part_are_not_the_best(ours):
    finding = ours("sm_clr_dhnm", EIGHT | {"SM": 0.7})["C5"]
    assert (
        finding.verdict == "contradicted" and "all three minus SM, the best other cell (minus SM + CLR, the best pair: +0.0" in finding.text
    )


def lora(full_with: float, full_without: float) -> dict[str, float]:
    full = {"full + SM": full_with, "full": full_without}
    return full | {f"LoRA r32 + embeddings{sm}": 0.3 for sm in (" + SM", "")}


def frozen(full_with: float, full_without: float) -> dict[str, float]:
    """LoRA of three ranks that leave the embeddings as they are, and no arm that trains them."""
    full = {"full + SM": full_with, "full": full_without}
    return full | {f"LoRA r{r}{sm}": 0.3 + r / 1000 for r in (16, 32, 64) for sm in (" + SM", "")}


def test_full_fine_tuning_and_the_mask_interact(ours):
    finding = ours("lora", lora(0.5, 0.2))["C6"]
    assert finding.verdict == "reproduced" and finding.effect == pytest.approx(0.3 / 2, abs=0.008)


def test_full_fine_tuning_that_is_ahead_without_the_mask_too_is_against_the_claim(ours):
    """The claim has two halves: an interaction alone is not both."""
    finding = ours("lora", lora(0.6, 0.5))["C6"]
    assert finding.verdict == "contradicted" and finding.effect == pytest.approx(-0.2 / 2, abs=0.01)
    assert finding.text.startswith(
        "LoRA minus full without the mask decides (LoRA of rank 32 that trains the embeddings too); the interacti"
    )


def test_lora_that_leaves_the_embeddings_alone_gives_no_verdict_whatever_the_earlier_rules_said(ours):
    finding = ours("lora", frozen(0.6, 0.5))["C6"]
    assert finding.verdict == "not run" and "conan-lib run --grid params/grids/lora.yaml" in finding.text
    (claim,) = (claim for claim in claims() if claim.id == "C6")
    assert [one.verdict(Run.open("params/tiny.yaml"), finding) for one in claim.earlier] == ["reproduced", "contradicted"]
    left, right = slopes(Run.open("params/tiny.yaml")).drawing.axes
    assert [label.get_text() for label in left.get_yticklabels()][-2:] == ["full", "full + SM"] and len(right.lines) == 8


def test_negatives_need_harder_negatives_and_better_retrieval(ours):
    assert ours("negatives", {"v2": 0.4, "static": 0.3, "v1": 0.3, "re-mined": 0.3})["C4"].verdict == "reproduced"


def test_negatives_whose_training_is_not_here_leave_their_half_open(ours):
    ours("negatives", {"v2": 0.4, "static": 0.3, "v1": 0.3, "re-mined": 0.3})
    for cell in open_grid("params/grids/negatives.yaml").cells:
        shutil.rmtree(cell.model.path)
    finding = ours("negatives", {})["C4"]
    assert finding.verdict == "undecided at this scale" and "this half is open" in finding.text and finding.interval[0] > 0


def test_negatives_of_one_seed_are_no_evidence(ours):
    """A mean over the steps of one run has no interval, and must not pass as one of no width."""
    one = {name: (0,) for name in ("v2", "static")}
    finding = ours("negatives", {"v2": 0.4, "static": 0.3}, **one)["C4"]
    assert finding.verdict == "undecided at this scale" and finding.seeds == 1


def test_what_belongs_together_has_the_same_seeds(ours):
    """A grid that was stopped half-way: one cell's only seed limits the claim, though another comparison has three."""
    recall = {"all": 0.4, "no news": 0.3, "no pairs": 0.2}
    finding = ours("data", recall, **{"no pairs": (1,)})["C13"]
    assert (finding.verdict, finding.seeds) == ("directional", 1)


def test_all_three_waits_for_every_cell_of_its_family(ours):
    assert ours("sm_clr_dhnm", {name: value for name, value in EIGHT.items() if name != "none"})["C5"].verdict == "not run"


def test_a_table_has_numbers_for_a_machine(small):
    frame = ablation_table(small)
    assert (
        frame.loc[frame["cell"] == "causal", "p corrected"].notna().all() and frame.loc[frame["cell"] == "soft", "minus soft"].isna().all()
    )
