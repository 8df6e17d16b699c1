"""Pins: curves and bands of the figure are the pairs' own means and quartiles; tables print the stage's numbers; gaps by family are
distances to the best of the same task, and the paper's column is the paper's."""

import numpy as np
import pandas as pd
import pytest

from conan_lib.data.records import read
from conan_lib.findings.published import published
from conan_lib.findings.run import Run
from conan_lib.topics.limits.show import (
    cosine_table,
    example_table,
    family_gaps,
    gap_figure,
    order_table,
    share_figure,
)
from tests.handmade import LANGUAGES, RECALL, WEAKER

TINY = "params/tiny.yaml"


@pytest.fixture
def run(report):
    return Run.open(TINY)


def test_curves_and_bands_are_those_of_the_pairs(run):
    stage = run.stages["probes"]
    pairs = pd.DataFrame(read(stage.path / "pairs.parquet"))
    axes = gap_figure(stage).axes
    assert [axis.get_title(loc="left").split("\n")[0] for axis in axes] == ["random", "supervised", "wordllama"] * 2
    assert axes[0].get_xlabel() == "larger number over smaller" and axes[3].get_xlabel() == "larger number minus smaller"
    numbers = pairs[pairs["family"] == "number"]  # seven gaps, each once in every sentence: seven bins of one gap
    for axis, gap in ((axes[1], numbers["number_b"] / numbers["number_a"]), (axes[4], numbers["number_b"] - numbers["number_a"])):
        curve = next(line for line in axis.lines if len(line.get_xdata()) == 7 and line.get_marker() == "o")
        assert np.allclose(curve.get_xdata(), sorted(set(gap)))
        assert np.allclose(curve.get_ydata(), numbers["supervised"].groupby(gap).mean())
    medians = {line.get_label(): line.get_ydata()[0] for line in axes[1].lines if line.get_linestyle() == "--"}
    assert medians == {name: pairs.loc[pairs["family"] == name, "supervised"].median() for name in ("paraphrase", "unrelated")}


def test_tables_print_the_stages_numbers(run):
    stage = run.stages["probes"]
    cosines, order = cosine_table(stage), order_table(stage)
    assert list(cosines["model"]) == list(order["model"]) == ["random", "supervised", "wordllama"]
    assert cosines.loc[1, ["number", "number low", "number high"]].tolist() == pytest.approx([0.97, 0.87, 1.07])
    rho = [f"rho: difference{end}" for end in ("", " low", " high")]
    assert order.loc[1, rho].tolist() == pytest.approx([-0.15, -0.25, -0.05])
    example = example_table(stage).set_index("language").loc["de"]
    assert (example["one"], example["the other"], example["cosine"]) == ("3 fairy tales de", "5 fairy tales de", 0.895)
    pairs = [row for row in read(stage.path / "pairs.parquet") if row["template"] == "fairy tales" and row["language"] == "de"]
    assert example["paraphrase"] == pytest.approx(np.mean([row["supervised"] for row in pairs if row["family"] == "paraphrase"]))


def test_gaps_are_to_the_best_of_the_same_task(run):
    value = {language: 100 * RECALL["supervised"] * (1 + WEAKER[language]) for language in LANGUAGES}
    shares = run.results("corpus")["train_chars"]
    families = family_gaps(run).set_index("family")
    assert families["paper: MKQA R@20"].to_dict() == dict(published()["families"].rows)
    assert families.loc["Arabic", "to the paper's best"] == pytest.approx(65.2 - 75.5)
    assert families.loc["Arabic", "share of training text (%)"] == pytest.approx(100 * shares["ar"] / sum(shares.values()))
    romance = (value["es"] + value["fr"]) / 2
    assert families.loc["Romance", "to our best"] == pytest.approx(romance - max(romance, value["de"]))


def test_each_language_is_a_point(run):
    (axis,) = share_figure(run).axes
    assert sorted(text.get_text() for text in axis.texts) == sorted(LANGUAGES) and "rank correlation" in axis.get_title(loc="left")
