"""Invariants: the loss of a batch of distinct texts is sentence-transformers' loss of its pairs; killed and resumed in the second epoch,
the weights and the swaps are those of an uninterrupted run; the exported model loads in plain sentence-transformers with equal vectors;
alpha rises from 0 along its schedule; without CLR no step trains CLR; a weak batch is of one language, and a language that fills none is
named."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss

from conan_lib.errors import UserError
from conan_lib.stages import open_stage
from conan_lib.training import contrastive, embedder
from conan_lib.training.batch_loss import ContrastiveLoss
from conan_lib.training.batches import Task, TaskCollator
from conan_lib.training.contrastive import _left_out, supervised_rows, train_supervised, train_weak
from conan_lib.training.embedder import build_tasks
from conan_lib.training.mine import mine_negatives
from conan_lib.training.recorder import Recorder
from conan_lib.training.tasks import TASKS
from tests.small_pairs import finish_inputs, finish_weak, pair_params, tables


@pytest.fixture(scope="module")
def weak_model(tmp_path_factory) -> SentenceTransformer:
    params = pair_params(tmp_path_factory.mktemp("weak"))
    finish_weak(params)
    return SentenceTransformer(str(open_stage("weak", params).path / "model"), device="cpu")


def columns(model, texts: list[list[str]]) -> list[dict[str, torch.Tensor]]:
    return [model.preprocess(list(column)) for column in zip(*texts, strict=True)]


def test_pairs_with_hard_negatives_equal_sentence_transformers(weak_model):
    rows = [
        {"anchor": r["anchor"], "positive": r["positive"], "negatives": [t["text"] for t in tables()["passages"][-6:][i : i + 2]]}
        for i, r in enumerate(tables()["retrieval"][:4])
    ]
    task = Task("retrieval", rows, 4)
    batch = TaskCollator([task], weak_model.tokenizer, 32)([{"task": 0, "row": i} for i in range(4)])
    chunks = [{"input_ids": batch["chunk0_input_ids"], "attention_mask": batch["chunk0_attention_mask"]}]
    ours = ContrastiveLoss(weak_model, [task], temperature=0.1, dims=(8, 16))(chunks, batch["label"])

    # the oracle has no notion of equal texts: keep the batch's hard negatives apart, or it counts them twice
    one = [{**r, "negatives": r["negatives"][:1]} for r in rows]
    task = Task("retrieval", one, 4)
    batch = TaskCollator([task], weak_model.tokenizer, 32)([{"task": 0, "row": i} for i in range(4)])
    chunks = [{"input_ids": batch["chunk0_input_ids"], "attention_mask": batch["chunk0_attention_mask"]}]
    ours_one = ContrastiveLoss(weak_model, [task], temperature=0.1, dims=(8, 16))(chunks, batch["label"])
    theirs = MatryoshkaLoss(weak_model, MultipleNegativesRankingLoss(weak_model, scale=10.0), [16, 8])
    expected = theirs(columns(weak_model, [[r["anchor"], r["positive"], *r["negatives"]] for r in one]), None)
    assert ours_one.item() == pytest.approx(expected.item(), rel=1e-5)
    assert ours.item() > ours_one.item()


def test_weak_training_learns_opens_the_mask_and_exports(tmp_path, capsys, monkeypatch):
    params = pair_params(tmp_path)
    finish_inputs(params)
    rows = lambda table, folder, mapped=contrastive.mapped: [*list(mapped(table, folder))[:-1], {**mapped(table, folder)[-1], "lang": "ko"}]  # noqa: E731
    monkeypatch.setattr(contrastive, "mapped", rows)
    stage = train_weak(open_stage("weak", params))
    assert "weak: left out for having fewer pairs than weak.batch_size 6: ko (1)\n" in capsys.readouterr().out
    assert (stage.results["pairs_trained"], stage.results["left_out"]) == (35, {"ko": 1})
    assert stage.results["epochs"] == 12 * 6 / 35  # of what is read
    history = json.loads((stage.path / "history.json").read_text())
    assert [row["alpha"] for row in history] == pytest.approx([step / 12 for step in range(12)])
    assert stage.results["loss"]["last"] < stage.results["loss"]["first"]
    assert stage.results["pairs_kept"] == 36  # the lowest tenth by the teacher is dropped
    config = json.loads((stage.path / "model" / "config.json").read_text())
    assert config["is_causal"] is False
    assert not any("soft_mask" in str(item) for item in config.items())
    vectors = SentenceTransformer(str(stage.path / "model"), device="cpu").encode(["a stone bridge", "星辰"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert not (stage.path / "checkpoints").exists()


def kill_at(monkeypatch, step: int) -> None:
    """The run dies after `step`, between two checkpoints."""
    original = Recorder.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        original(self, args, state, control, **kwargs)
        if state.global_step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(Recorder, "on_step_end", on_step_end)


# so eager a rule that swaps happen, and so many steps of the few rows of retrieval that anchors come back
OFTEN = {"max_steps": 20, "mix": {"retrieval": 6, "clr": 2, "sts": 1, "classification": 1, "clustering": 1}}
EAGER = OFTEN | {"dhnm": {"floor": 0.9}}
EVERYTHING = OFTEN | {
    "dhnm": {"rule": "remined", "remine_interval": 5, "margin": 0.05},
    "lora": {"rank": 2, "dropout": 0.2},
    "cached_minibatch": 5,
    "balance": 0.8,
}


@pytest.mark.parametrize(
    "name, section, workers",
    [("weak", {"max_steps": 20}, 0), ("supervised", EAGER, 2), ("supervised", EVERYTHING, 0)],
    ids=["weak", "v2, resumed with workers", "re-mined, LoRA, cached, balanced"],
)
def test_killed_in_the_second_epoch_and_resumed_is_the_same_run(tmp_path, monkeypatch, name, section, workers):
    train, runs = {"weak": train_weak, "supervised": train_supervised}[name], []
    for kill in (None, 15):
        runtime = {"save_steps": 7, "workers": workers if kill else 0}  # batches built ahead by others change nothing
        params = pair_params(tmp_path / str(kill), **{name: section}, runtime=runtime)
        finish_inputs(params) if name == "weak" else finish_weak(params)
        if name == "supervised":
            mine_negatives(open_stage("mine", params))
        stage = open_stage(name, params)
        if kill:
            with monkeypatch.context() as patch:
                kill_at(patch, kill)
                with pytest.raises(KeyboardInterrupt):
                    train(stage)
            assert stage.status == "partial"
        train(stage)
        runs.append(
            (load_file(stage.path / "model" / "model.safetensors"), json.loads((stage.path / "history.json").read_text()), stage.results)
        )
    (weights, history, results), (weights_again, history_again, results_again) = runs
    assert history == history_again
    assert results == results_again
    assert all(torch.equal(weights[key], weights_again[key]) for key in weights)
    if name == "supervised":
        assert results["swaps"] > 0 and (results["swapped_in"] > 0) == (section is EAGER)  # what is mined again is no swap
        visited = 4 * sum(row["task"] == "retrieval" for row in history if row["step"] <= 14)
        assert visited > len(tables()["retrieval"])  # the checkpoint is of the second epoch


@pytest.fixture(scope="module")
def supervised(tmp_path_factory):
    """A finished stage, and its model as it was when it was saved."""
    params = pair_params(tmp_path_factory.mktemp("supervised"))
    finish_weak(params)
    mine_negatives(open_stage("mine", params))
    trained = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            embedder, "export", lambda model, folder, causal, export=embedder.export: (trained.append(model), export(model, folder, causal))
        )
        return train_supervised(open_stage("supervised", params)), trained[0]


def test_supervised_trains_every_task_and_without_clr_none_of_it(supervised):
    stage, _ = supervised
    with_clr = stage.results
    without = train_supervised(open_stage("supervised_no_clr", stage.params)).results
    assert set(with_clr["steps"]) == {"retrieval", "clr", "sts", "classification", "clustering"}
    assert min(with_clr["steps"].values()) >= 2
    assert "clr" not in without["steps"]
    assert sum(with_clr["steps"].values()) == sum(without["steps"].values()) == 14


def test_saved_vectors_are_those_of_the_trained_model(supervised):
    stage, trained = supervised
    texts = [row["text"] for row in tables()["passages"]]
    plain = SentenceTransformer(str(stage.path / "model"), device="cpu")
    assert type(plain[0].auto_model).__module__.startswith("transformers.")
    np.testing.assert_allclose(plain.encode(texts), trained.encode(texts), atol=1e-6)


def test_weak_batches_hold_one_language_each_by_its_share(tmp_path):
    """`one`: every batch of one language, steps by the language's pairs, a language below one batch left out; `mixed`: one task of all."""
    rows = [{"anchor": f"a{i}", "positive": f"p{i}", "lang": "de" if i % 3 else "fr"} for i in range(30)] + [
        {"anchor": "x", "positive": "y", "lang": "ko"}
    ]
    section = pair_params(tmp_path).weak
    tasks = build_tasks({"weak": rows}, section)
    assert [(task.name, len(task.rows), task.share) for task in tasks] == [("weak de", 20, 20), ("weak fr", 10, 10)]
    assert all(row["lang"] == task.name[-2:] for task in tasks for row in task.rows)
    assert len(build_tasks({"weak": rows}, section.model_copy(update={"batch_languages": "mixed"}))[0].rows) == 31
    assert _left_out(rows, tasks) == {"ko": 1}
    with pytest.raises(UserError, match="no language has 6 pairs"):
        build_tasks({"weak": rows[:3]}, section)


def test_few_pools_are_a_seeded_choice(tmp_path):
    """`supervised.pools` limits passages of CLR and queries of retrieval, each with all of its rows; None changes nothing, nor the key."""
    params = {name: pair_params(tmp_path / "artefacts", supervised=over) for name, over in
              {"all": {}, "few": {"pools": 6}, "again": {"pools": 6}, "other": {"pools": 6, "seed": 1}}.items()}  # fmt: skip
    finish_inputs(params["all"])
    found = {}
    for name, one in params.items():
        stage = open_stage("supervised", one)
        built = build_tasks(supervised_rows(stage), stage.supervised.model_copy(update={"hard_negatives": 0}))
        found[name] = {task.name: list(task.rows) for task in built}
    groups = {
        name: {task: {row["group"] for row in rows} for task, rows in tasks.items() if TASKS[task].negatives == "pool"}
        for name, tasks in found.items()
    }
    assert {task: len(few) for task, few in groups["few"].items()} == {"retrieval": 6, "clr": 6}
    assert groups["few"] == groups["again"] != groups["other"]
    assert found["few"]["clr"] == [row for row in found["all"]["clr"] if row["group"] in groups["few"]["clr"]]
    assert found["few"]["sts"] == found["all"]["sts"]
    assert "pools" not in open_stage("supervised", params["all"]).artefact.parameters["supervised"]
