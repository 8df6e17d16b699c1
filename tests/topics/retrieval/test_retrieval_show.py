"""Pins: bars, points, lines and cells of the evaluation's figures are the numbers of the stages' files; peers are drawn where they have
finished; axes are labelled; a figure without rows is a clear error."""

import json

import numpy as np
import pytest

from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.evaluation.checkpoints import MODELS as CHECKPOINTS
from conan_lib.findings.blocks import Missing
from conan_lib.findings.plots import series
from conan_lib.findings.run import Run
from conan_lib.stages import open_stage
from conan_lib.table import RUN
from conan_lib.topics.mixing.show import r1_matrix, umap
from conan_lib.topics.retrieval.figures import checkpoints, languages
from conan_lib.topics.retrieval.show import show
from tests.handmade import rewrite

TINY = "params/tiny.yaml"
OURS = [name for name in CHECKPOINTS if name != "start"]  # the tiny tier starts from random weights


def recall(stage, subset, file="scores.json"):
    rows = [row for row in series(stage, file) if row["type"] == "crosslingual" and row["metric"] == "recall_at_10"]
    return {row["model"]: row["value"] for row in rows if row["subset"] == subset}


def test_checkpoints_are_bars_and_peers_lines(report):
    stage, peers = open_stage("evaluate", TINY), open_stage("peers", TINY)
    (axis,) = checkpoints(stage, peers).axes
    plain, white = ([recall(stage, "mean", file)[name + suffix] for name in OURS]
                    for file, suffix in (("scores.json", ""), ("whitened/scores.json", "-whitened")))  # fmt: skip
    assert [bar.get_height() for bar in axis.patches] == plain + white and plain != white
    drawn = {line.get_label().split()[0]: line.get_ydata()[0] for line in axis.lines if not line.get_label().startswith("_")}
    assert drawn == recall(peers, "mean")
    assert axis.get_ylabel() and "n = " in axis.get_title(loc="left")


def test_peers_without_values_of_single_queries_are_said_not_to_be_compared(report):
    block = show(Run.open(TINY))["peers"]
    assert isinstance(block, Missing) and "no values of single queries" in block.why


def test_peers_that_have_not_finished_are_left_out(fake_run):
    names = [name for name in RUN if name != "peers"]
    file = fake_run(*names)
    (axis,) = checkpoints(open_stage("evaluate", file), open_stage("peers", file)).axes
    assert len(axis.patches) == 2 * len(OURS)
    assert not [line for line in axis.lines if not line.get_label().startswith("_")]


def test_a_run_without_whitening_has_one_bar_each(fake_run):
    stage = open_stage("evaluate", fake_run(*RUN))
    manifest = stage.path / "manifest.json"
    said = json.loads(manifest.read_text())
    del said["results"]["whitened"]
    manifest.write_text(json.dumps(said))
    (axis,) = checkpoints(open_stage("evaluate", stage.params)).axes
    assert len(axis.patches) == len(OURS)


def test_each_language_has_the_files_value(report):
    stage, peers = open_stage("evaluate", TINY), open_stage("peers", TINY)
    (axis,) = languages(stage, peers).axes
    order = [label.get_text().split()[0] for label in axis.get_xticklabels()]
    for line in axis.lines:
        source = stage if line.get_label() in CHECKPOINTS else peers
        assert np.allclose(line.get_ydata(), [recall(source, language)[line.get_label()] for language in order])
    best = [recall(stage, language)["supervised"] for language in order]
    assert best == sorted(best, reverse=True)


def test_umap_shows_every_point_and_names_the_texts(report):
    stage = open_stage("mix", TINY)
    figure = umap(stage)
    points = read(stage.path / "points.parquet")
    for axis, arm in zip(figure.axes, ("without CLR", "with CLR"), strict=True):
        drawn = np.concatenate([collection.get_offsets() for collection in axis.collections])
        assert len(drawn) == sum(row["model"] == arm for row in points) and axis.get_title(loc="left").startswith(arm)
    assert series(stage, "mixing.json")["texts"] in figure.get_suptitle()


def test_r1_matrix_cells_are_the_files(report):
    stage = open_stage("mix", TINY)
    axes = r1_matrix(stage).axes
    numbers = series(stage, "mixing.json")["without CLR"]["r1_matrix"]
    image = axes[0].images[0].get_array()
    names = sorted(numbers)
    assert image[0, 1] == numbers[names[0]][names[1]] and np.isnan(image.data[0, 0])


def test_no_rows_is_a_clear_error(fake_run):
    stage = open_stage("evaluate", fake_run(*RUN))
    rewrite(stage, "scores.json", [])
    with pytest.raises(UserError, match="no cross-lingual"):
        checkpoints(stage)
