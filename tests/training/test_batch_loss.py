"""Invariants: the loss of a batch is its equation over texts in float64, equal texts and equal positives masked; GradCache has the
gradients of the plain loss and of sentence-transformers' cached one, with DHNM scores, Matryoshka and dropout; v1's balance is
InfoNCE + beta CoSENT; beyond the margin a hard negative counts no more; the smallest batch that parameters allow is the smallest that can
learn."""

import math

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    CoSENTLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)

from conan_lib.negatives import DhnmOptions, NegativePool
from conan_lib.params.training import LoraParams, SupervisedParams
from conan_lib.stages import open_stage
from conan_lib.training.batch_loss import ContrastiveLoss
from conan_lib.training.batches import Task, TaskBatchSampler, TaskCollator
from conan_lib.training.embedder import build_tasks
from conan_lib.training.lora import add_lora
from tests.small_pairs import finish_weak, pair_params, tables

PASSAGES = [row["text"] for row in tables()["passages"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    params = pair_params(tmp_path_factory.mktemp("weak"))
    finish_weak(params)
    return str(open_stage("weak", params).path / "model")


@pytest.fixture
def model(folder) -> SentenceTransformer:
    return SentenceTransformer(folder, device="cpu")


def chunks(batch: dict) -> list[dict]:
    count = sum(name.endswith("input_ids") for name in batch)
    return [{name: batch[f"chunk{i}_{name}"] for name in ("input_ids", "attention_mask")} for i in range(count)]


def pooled(model, chunk: int, **options) -> tuple[ContrastiveLoss, list[dict], dict]:
    """Loss and batch of six anchors with three negatives each from a pool; two anchors share theirs."""
    rows = [{"anchor": r["anchor"], "positive": r["positive"], "pool": max(i - 1, 0)} for i, r in enumerate(tables()["retrieval"][:6])]
    task = Task("retrieval", rows, 6)
    pool = NegativePool(torch.arange(30, 40).repeat(5, 1), 3, options.pop("dhnm", DhnmOptions(floor=1.0)))
    texts = lambda pool_ids: [[PASSAGES[row] for row in own] for own in pool.draw(pool_ids).tolist()]  # noqa: E731
    collator = TaskCollator([task], model.tokenizer, 32, texts, chunk)
    batch = collator.complete(collator([{"task": 0, "row": i} for i in range(6)]))
    return ContrastiveLoss(model, [task], 0.1, dims=(8, 16), pool=pool, **options), chunks(batch), batch["label"]


def gradients(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("dropout", [None, 0.3])
def test_cached_has_the_gradients_scores_and_swaps_of_uncached(model, dropout):
    if dropout is not None:
        add_lora(model, LoraParams(rank=4, dropout=dropout), seed=1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.5)
    model.train()
    found = []
    for cached in (None, 4):  # the same chunks, so that dropout draws the same numbers
        loss, features, label = pooled(model, 4, cached_minibatch=cached)
        assert len(features) > 3
        torch.manual_seed(0)
        value = loss(features, label)
        found.append((value.item(), gradients(model, value), loss.seen, loss.pool.state_dict()))
    (plain, plain_grads, seen, state), (cached, cached_grads, seen_cached, state_cached) = found
    assert cached == pytest.approx(plain, rel=1e-6)
    assert plain_grads.keys() == cached_grads.keys() and any(grad.abs().max() > 1e-3 for grad in plain_grads.values())
    for name, grad in plain_grads.items():
        torch.testing.assert_close(cached_grads[name], grad, rtol=1e-4, atol=1e-5)
    assert seen.pop("task") == seen_cached.pop("task") == "retrieval"
    assert seen == pytest.approx(seen_cached, rel=1e-6) and seen["swaps"] == 15
    assert torch.equal(state["rank"], state_cached["rank"])


def test_cached_has_the_gradients_of_sentence_transformers(model):
    rows = [
        {"anchor": r["anchor"], "positive": r["positive"], "negatives": [PASSAGES[30 + i]]} for i, r in enumerate(tables()["retrieval"][:6])
    ]
    task = Task("retrieval", rows, 6)
    batch = TaskCollator([task], model.tokenizer, 32, chunk=5)([{"task": 0, "row": i} for i in range(6)])
    ours = ContrastiveLoss(model, [task], 0.05, dims=(8, 16), cached_minibatch=5)(chunks(batch), batch["label"])
    our_grads = gradients(model, ours)
    columns = [model.preprocess(list(c)) for c in zip(*((r["anchor"], r["positive"], r["negatives"][0]) for r in rows), strict=True)]
    theirs = MatryoshkaLoss(model, CachedMultipleNegativesRankingLoss(model, scale=20.0, mini_batch_size=4), [16, 8])(columns, None)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    for name, grad in gradients(model, theirs).items():
        torch.testing.assert_close(our_grads[name], grad, rtol=1e-3, atol=1e-4)


def text_loop(model, rows: list[dict], temperature: float, margin: float | None = None) -> float:
    """InfoNCE over texts, one anchor after the other, in float64."""
    texts = sorted({text for row in rows for text in (row["anchor"], row["positive"], *row["negatives"])})
    vectors = dict(zip(texts, model.encode(texts, convert_to_tensor=True).double().tolist(), strict=True))
    score = lambda a, b: sum(x * y for x, y in zip(vectors[a], vectors[b], strict=True))  # noqa: E731
    candidates = {text for row in rows for text in (row["positive"], *row["negatives"])}
    total = 0.0
    for row in rows:
        anchor, own = row["anchor"], row["positive"]
        masked = {anchor} | {other["positive"] for other in rows if other["anchor"] == anchor}
        if margin is not None:
            masked |= {text for text in row["negatives"] if score(anchor, text) > score(anchor, own) - margin}
        kept = candidates - masked | {own}
        total -= score(anchor, own) / temperature - math.log(sum(math.exp(score(anchor, text) / temperature) for text in kept))
    return total / len(rows)


@pytest.mark.equation("infonce")
def test_equal_texts_and_equal_positives_are_masked_as_a_loop_over_texts_masks_them(model):
    a, b, c, d, e = PASSAGES[:5]
    rows = [
        {"anchor": a, "positive": b, "negatives": [d, e]},
        {"anchor": a, "positive": c, "negatives": [b, e]},  # the same question: b is its other answer, not a negative
        {"anchor": d, "positive": b, "negatives": [a, d]},  # one positive for two questions; its own text as a negative
        {"anchor": e, "positive": a, "negatives": [c, c]},  # a negative named twice counts once
    ]
    task = Task("retrieval", rows, 4)
    batch = TaskCollator([task], model.tokenizer, 32)([{"task": 0, "row": i} for i in range(4)])
    ours = ContrastiveLoss(model, [task], 0.1)(chunks(batch), batch["label"])
    assert ours.item() == pytest.approx(text_loop(model, rows, 0.1), rel=1e-5)


@pytest.mark.equation("dhnm_margin")
@pytest.mark.parametrize("margin", [0.0, 0.02, 0.05])
def test_beyond_the_margin_a_hard_negative_counts_no_more(model, margin):
    loss, features, label = pooled(model, 32, dhnm=DhnmOptions(margin=margin))
    loss.dims = None
    rows = [{**row, "negatives": PASSAGES[30:33]} for row in loss.tasks[0].rows]
    value = loss(features, label).item()
    assert value == pytest.approx(text_loop(model, rows, 0.1, margin), rel=1e-5)
    assert value != pytest.approx(text_loop(model, rows, 0.1), rel=1e-5)


@pytest.mark.equation("balance")
def test_balance_is_info_nce_and_weighted_cosent_of_sentence_transformers(model):
    pairs, sts = tables()["retrieval"][:5], tables()["sts"][:7]
    tasks = [
        Task("retrieval", [{"anchor": r["anchor"], "positive": r["positive"]} for r in pairs], 5),
        Task("sts", sts, 7, loss="cosent"),
    ]
    items = [{"task": 0, "row": i} for i in range(5)] + [{"task": 1, "row": i} for i in range(7)]
    batch = TaskCollator(tasks, model.tokenizer, 32)(items)
    ours = ContrastiveLoss(model, tasks, 0.1, 0.05, balance=0.8)(chunks(batch), batch["label"])
    columns = [model.preprocess([r[side] for r in pairs]) for side in ("anchor", "positive")]
    info_nce = MultipleNegativesRankingLoss(model, scale=10.0)(columns, None)
    columns = [model.preprocess([r[side] for r in sts]) for side in ("anchor", "positive")]
    cosent = CoSENTLoss(model, scale=20.0)(columns, torch.tensor([r["score"] for r in sts]))
    assert ours.item() == pytest.approx(info_nce.item() + 0.8 * cosent.item(), rel=1e-5)


@pytest.mark.parametrize(("name", "least"), [("retrieval", 2), ("weak", 2), ("clr", 3), ("sts", 2), ("clustering", 1)])
def test_the_smallest_batch_that_is_allowed_is_the_smallest_whose_loss_is_not_nought(model, name, least):
    """Without hard negatives. Two queries share a passage of CLR, and rows of clustering bring a negative."""
    options = {"mix": {name: 1}, "hard_negatives": 0, "clr_queries": 2}
    allowed = SupervisedParams(**options, task_batch_size={name: least})
    for size in range(1, least + 1):
        if size < least:
            with pytest.raises(ValueError, match=f"task_batch_size.{name}: {size} gives a batch no .*: give at least {least}"):
                SupervisedParams(**options, task_batch_size={name: size})
        rows = {name: tables()["labels" if name == "clustering" else name]}
        (task,) = build_tasks(rows, allowed.model_copy(update={"task_batch_size": {name: size}}))
        for items in TaskBatchSampler([task], 5, 0):
            batch = TaskCollator([task], model.tokenizer, 32)([{"task": 0, "row": row} for row in items])
            loss = ContrastiveLoss(model, [task], 0.1)(chunks(batch), batch["label"]).item()
            assert (loss > 0) == (size == least), (size, loss)
