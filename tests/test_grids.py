"""Every mistake in a grid file, a cell or a seed is one line that names the cell and the key, found before anything runs; cells are the
axes' product and those beside it; what cells do not change is one artefact; our own grids validate, and their cells have the tier's own
budget."""

from pathlib import Path

import pytest

from conan_lib.errors import UserError
from conan_lib.grids import open_grid
from conan_lib.params import load_params
from tests.small_grid import FILE, GRID, write_grid

ROOT = Path(__file__).parents[1]
OURS = sorted((ROOT / "params/grids").glob("*.yaml"))

CAUSAL = "{weak: {soft_mask: {attention: causal}}}"
BAD = {
    "unknown key": ("seeds:", "seds:", "small.yaml: seds: unknown key, did you mean seeds?"),
    "unknown key of a cell": ("attention: causal", "attenton: causal", "cell causal: weak.soft_mask.attenton: unknown key, did you mean"),
    "unknown section of a cell": (CAUSAL, "{wek: {}}", "cell causal: wek: unknown key, did you mean weak?"),
    "impossible value": ("attention: causal", "attention: shut", "cell causal: weak.soft_mask.attention: Input should be 'soft'"),
    "no such baseline": ("baseline: soft", "baseline: hard", "baseline: no cell 'hard'; the cells are soft, causal"),
    "one cell": ("  causal: {weak: {soft_mask: {attention: causal}}}\n", "", "at least two cells"),
    "a shared stage": (CAUSAL, "{sft: {max_steps: 7}}", "cell causal (seed 0): sft.max_steps changes stage sft"),
    "a file that others lack": (
        CAUSAL, "{data: {languages: [en], sets: [{from: my.jsonl, task: weak, lang: en}]}}",
        "cell causal (seed 0): data.sets, data.languages, files.my.jsonl changes stage corpus",
    ),
    "a key that others lack": (CAUSAL, "{sft: {template: plain}}", "cell causal (seed 0): sft.template changes stage sft"),
    "a key that others have": ("  soft: {}", "  soft: {sft: {template: plain}}", "cell causal (seed 0): sft.template changes stage sft"),
    "a stage that others lack": (
        CAUSAL, "{model: {start: ./my}, tokenizer: null, backbone: null}", "cell causal (seed 0): model changes stage start"
    ),
    "a seed of a shared stage": ("stages: [", "seed_keys: [sft.seed]\nstages: [", "cell soft (seed 1): sft.seed changes stage sft"),
    "an unknown seed key": ("stages: [", "seed_keys: [weak.sead]\nstages: [", "cell soft: weak.sead: unknown key, did you mean seed?"),
    "the same cell twice": ("attention: causal", "attention: soft", "cells soft (seed 0) and causal (seed 0) are the same run"),
    "runtime": (CAUSAL, "{runtime: {threads: 1}}", "cell causal: runtime: a cell overrides the stages'"),
    "unknown stage": ("[weak, mine", "[wek, mine", "stages.0: Input should be"),
    "negatives of the weak stage": ("seeds:", "target: score_weak\ncurves: negatives\nseeds:", "curves: negatives are those of the superv"),
    "unknown metric": ("[mean,", "[median,", "metrics.0: Input should be"),
    "missing base": ("../small.yaml", "../none.yaml", "none.yaml: no such parameter file"),
    "like no file": ("seeds: [0, 1]", "seeds: [0, 1]\nlike: 5", "like: 5 is no file name"),
    "a seed twice": ("seeds: [0, 1]", "seeds: [1, 1]", "seeds: give different numbers"),
    "axes that set the same key": (
        "cells:",
        "axes: {a: {x: {}, y: {weak: {seed: 1}}}, b: {z: {weak: {seed: 2}}}}\ncells:",
        "axes: a and b both set weak.seed",
    ),
    "a name twice": ("cells:", "axes: {a: {soft: {}, y: {weak: {temperature: 1}}}}\ncells:", "two cells are called soft"),
}  # fmt: skip


@pytest.mark.parametrize("old, new, message", BAD.values(), ids=BAD.keys())
def test_a_mistake_is_one_line_that_names_the_place(project, old, new, message):
    assert old in GRID
    write_grid(project, GRID.replace(old, new))
    with pytest.raises(UserError) as error:
        open_grid(FILE)
    assert message in str(error.value) and "\n" not in str(error.value) and not (project / "artefacts").exists()


def test_cells_are_the_product_of_the_axes_and_those_beside_it(project):
    axes = "axes: {a: {A: {}, none: {weak: {temperature: 1}}}, b: {B: {}, none: {mine: {candidates: 9}}}}\n"
    text = GRID.partition("cells:")[0] + axes + "cells: {other: {weak: {seed: 9}}}\nbaseline: A + B\nmetrics: [mean]\n"
    write_grid(project, text.replace("stages:", "seed_keys: [supervised.seed]\nstages:"))
    grid = open_grid(FILE)
    assert grid.names == ["A + B", "A", "B", "none", "other"]
    assert [cell.seed for cell in grid.cells] == [0] * 5 + [1] * 5, "a killed run leaves whole seeds behind"
    none = grid.of("none")[1].params
    assert (none.weak.temperature, none.mine.candidates, none.supervised.seed) == (1, 9, 1)


def test_what_cells_do_not_change_is_one_artefact(project):
    write_grid(project)
    grid = open_grid(FILE)
    different = {name: len({cell.stages[name].key for cell in grid.cells}) for name in grid.cells[0].stages}
    assert different == {
        "corpus": 1,
        "sets": 1,
        "heldout": 1,
        "tokenizer": 1,
        "pretrain": 1,
        "sft": 1,
        "teacher": 1,
        "weak": 4,
        "mine": 4,
        "supervised": 4,
        "score": 4,
    }
    assert [cell.seed for cell in open_grid(FILE, seeds=(5,)).cells] == [5, 5]
    assert grid.command == "conan-lib run --grid params/grids/small.yaml --seeds 0,1"


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_our_grids_validate(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    grid = open_grid(path)
    assert grid.params.name == path.stem and len(grid.params.seeds) >= 3 and grid.params.tier == "tiny"
    assert len(grid.cells) == len(grid.names) * len(grid.params.seeds)


def test_the_baseline_of_our_grids_is_the_run_of_the_tier_itself(monkeypatch):
    """So a verdict rests on the tier's full budget. In `data` the teacher scores every pair: it is what C14 asks about."""
    monkeypatch.chdir(ROOT)
    tiny = load_params("params/tiny.yaml")
    for path in OURS:
        grid = open_grid(path)
        if path.stem == "data":
            assert {cell.params.teacher.budget for cell in grid.cells} == {tiny.sets.weak_pairs}
            tree = tiny.model_copy(update={"teacher": grid.cells[0].params.teacher})
        else:
            tree = tiny
        assert grid.of(grid.params.baseline)[0].params == tree


@pytest.mark.parametrize("path", sorted((ROOT / "params/grids").rglob("negatives.yaml")), ids=lambda path: path.parent.name)
def test_every_rule_for_negatives_acts_and_more_than_once(path, monkeypatch):
    """Within the batches that have negatives, those of retrieval and CLR; a swap after the last of them would do nothing."""
    monkeypatch.chdir(ROOT)
    for cell in open_grid(path).cells:
        stage, rule = cell.params.supervised, cell.params.supervised.dhnm
        batches = stage.max_steps * (stage.mix["retrieval"] + stage.mix["clr"]) / sum(stage.mix.values())
        assert rule.rule != "v1" or 2 * rule.v1_interval < batches
        assert rule.rule != "remined" or 2 * rule.remine_interval < stage.max_steps


def test_our_grids_share_what_they_have_in_common(monkeypatch):
    monkeypatch.chdir(ROOT)
    cells = [cell for path in OURS for cell in open_grid(path).cells]
    different = {name: len({cell.stages[name].key for cell in cells}) for name in cells[0].stages}
    once = dict.fromkeys(("corpus", "sets", "heldout", "tokenizer"), 1)
    languages = {"pretrain": 9, "sft": 9, "teacher": 2}  # of `data` alone, but one
    assert different == once | languages | {"weak": 60, "mine": 60, "supervised": 84, "score": 84}
