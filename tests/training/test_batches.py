"""Invariants: every task gets its share to within one batch; a batch has one task; groups come together; no anchor is in two batches of its
task in a row; the order depends on the seed alone; each distinct text is encoded once and restored to its place; under accelerate every
process reads every batch, and their shares of its texts make it up; a pool is asked when a batch is completed, not when it is built."""

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st

from conan_lib.errors import UserError
from conan_lib.training.batches import Task, TaskBatchSampler, TaskCollator, turns


def pairs(name: str, rows: int, batch: int, share=1.0, group: int = 1, members: int = 1) -> Task:
    return Task(name, [{"anchor": f"{name}{i}", "positive": "p", "group": i // members} for i in range(rows)], batch, share, group)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=5), st.integers(1, 200))
def test_every_task_has_its_share_to_within_one_batch(shares, steps):
    done = np.bincount(list(turns(shares, steps)), minlength=len(shares))
    wanted = np.array(shares) / sum(shares) * steps
    assert done.sum() == steps
    assert np.abs(done - wanted).max() <= len(shares) / 2 + 1


def test_batches_hold_one_task_and_never_repeat_an_anchor_in_a_row():
    tasks = [pairs("a", 11, 4, 2.0), pairs("b", 30, 6)]
    last = {}
    for batch in TaskBatchSampler(tasks, 60, seed=3):
        numbers = {0 if row < 11 else 1 for row in batch}
        assert len(numbers) == 1
        number = numbers.pop()
        assert len(set(batch)) == len(batch) == tasks[number].batch_size
        assert not set(batch) & set(last.get(number, ()))
        last[number] = batch


def test_an_epoch_visits_every_group_once_and_members_come_together():
    task = pairs("clr", 40, 8, group=4, members=5)
    batches = list(TaskBatchSampler([task], 4, seed=0))
    groups = [[row // 5 for row in batch] for batch in batches]
    assert all(sorted(np.bincount(g, minlength=8))[-2:] == [4, 4] for g in groups)
    assert sorted({g for batch in groups for g in batch}) == list(range(8))


def test_the_order_depends_on_the_seed_alone():
    tasks = [pairs("a", 20, 4), pairs("b", 20, 4)]
    first, again, other = (list(TaskBatchSampler(tasks, 20, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_fewer_rows_than_a_batch_are_refused():
    with pytest.raises(UserError, match="task a: 3 rows are less than a batch of 4"):
        pairs("a", 3, 4)


class Letters:
    """A tokenizer whose tokens are the characters."""

    all_special_ids = ()

    def __call__(self, texts, truncation, max_length=None):
        return {"input_ids": [[ord(c) for c in text][:max_length] for text in texts]}

    def pad(self, chunk, return_tensors):
        length = max(map(len, chunk["input_ids"]))
        return {"input_ids": torch.tensor([ids + [0] * (length - len(ids)) for ids in chunk["input_ids"]])}


def read_back(parts: list[dict], restore: torch.Tensor) -> list[str]:
    """The texts of a batch in the order of its label, from the chunks of all processes."""
    chunks = [ids for part in parts for name, ids in part.items() if name.endswith("input_ids")]
    texts = ["".join(chr(c) for c in row if c) for ids in chunks for row in ids.tolist()]
    return [texts[k] for k in restore.tolist()]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_each_distinct_text_is_encoded_once_and_found_again(world):
    words = ["bb", "a", "bb", "dddd", "ccc"] * 20
    rows = [{"anchor": w, "positive": w + "!" * (i % 50), "negatives": ["a", w]} for i, w in enumerate(words)]
    collator, parts = TaskCollator([Task("t", rows, 4)], Letters(), 99, chunk=9), []
    for collator.rank in range(world):
        collator.world = world
        parts.append(collator([{"task": 0, "row": i} for i in range(len(rows))]))
    label = parts[0]["label"]
    assert all(torch.equal(label[name], part["label"][name]) for part in parts for name in label)
    assert len({tuple(ids.shape[0] for name, ids in part.items() if name != "label") for part in parts}) == 1  # as many forward passes each
    texts = read_back(parts, label["restore"])
    assert len(texts) == len(set(texts))
    assert [texts[k] for k in label["anchor"]] == words
    assert [texts[k] for k in label["positive"]] == [row["positive"] for row in rows]
    assert [[texts[k] for k in some] for some in label["negatives"]] == [row["negatives"] for row in rows]


def test_an_anchors_own_prompt_takes_the_place_of_its_tasks():
    """What a record or a declared set brings; equal texts stay equal whatever stands before them."""
    rows = [{"anchor": "a", "positive": "p", "prompt": own} for own in ("find ", "", "ask ")]
    batch = TaskCollator([Task("t", rows, 3, prompts=("query ", ""))], Letters(), 99)([{"task": 0, "row": i} for i in range(3)])
    texts = read_back([batch], batch["label"]["restore"])
    assert [texts[k] for k in batch["label"]["anchor"]] == ["find a", "query a", "ask a"]
    assert len(set(batch["label"]["plain"][batch["label"]["anchor"]].tolist())) == 1


@pytest.mark.parametrize("prompts", [("q" * 9, ""), ("", "q" * 9)])
@pytest.mark.parametrize("own", [False, True])
def test_a_prompt_leaves_its_texts_half_of_the_tokens(prompts, own):
    """A task's for either side, or a row's; else all texts would be the prompt, and have one vector."""
    row = {"anchor": "a", "positive": "p"} | ({"prompt": max(prompts)} if own else {})
    task = Task("t", [row] * 2, 2, prompts=("", "") if own else prompts)
    assert TaskCollator([task], Letters(), 18)([{"task": 0, "row": 0}])
    line = r"^task t: the prompt 'q{9}' has 9 tokens, more than half of max_length 17, .*: raise max_length, or shorten the prompt$"
    with pytest.raises(UserError, match=line):
        TaskCollator([task], Letters(), 17)


@pytest.mark.parametrize("world", [1, 3])
def test_every_process_reads_every_batch(world):
    tasks = [pairs("a", 20, 4, 2.0), pairs("b", 20, 5)]
    whole = list(TaskBatchSampler(tasks, 12, seed=1))
    sampler = TaskBatchSampler(tasks, 12, seed=1, world=world)
    for rank in range(world):
        dealt = BatchSamplerShard(sampler, world, rank, even_batches=False)
        assert list(dealt) == whole and len(dealt) == 12


@pytest.mark.parametrize("temperature, wanted", [(1.0, [54, 6]), (2.0, [45, 15]), (1e9, [30, 30])])
def test_temperature_flattens_the_shares(temperature, wanted):
    tasks = [pairs("a", 20, 4, 9.0), pairs("b", 20, 4, 1.0)]
    batches = list(TaskBatchSampler(tasks, 60, seed=1, temperature=temperature))
    assert np.bincount([batch[0] // 20 for batch in batches]).tolist() == wanted


def test_a_companion_comes_along_and_takes_no_turn():
    tasks = [
        pairs("a", 20, 4, 2.0),
        Task("sts", [{"anchor": "x", "positive": "y", "score": 0.5}] * 20, 6, 9.0, loss="cosent"),
        pairs("b", 20, 5, 1.0),
    ]
    batches = list(TaskBatchSampler(tasks, 30, seed=1, companion=1))
    parts = [(sum(row < 20 for row in b), sum(20 <= row < 40 for row in b), sum(row >= 40 for row in b)) for b in batches]
    assert parts.count((4, 6, 0)) == 20 and parts.count((0, 6, 5)) == 10
    label = TaskCollator(tasks, Letters(), 9)([{"task": 2, "row": 1}, {"task": 1, "row": 3}])["label"]
    assert (label["task"], label["anchor"].tolist(), label["sts_anchor"].tolist(), label["sts_score"].tolist()) == (2, [0], [2], [0.5])


def test_the_pool_is_asked_when_the_batch_is_completed():
    in_use = ["old"]
    rows = [{"anchor": f"a{i}", "positive": f"p{i}", "pool": i} for i in range(4)]
    collator = TaskCollator([Task("t", rows, 2)], Letters(), 9, lambda pool_ids: [list(in_use) for _ in pool_ids])
    built = collator([{"task": 0, "row": 1}, {"task": 0, "row": 2}])
    in_use[:] = ["new"]
    batch = collator.complete(built)
    texts = read_back([batch], batch["label"]["restore"])
    assert [[texts[k] for k in some] for some in batch["label"]["negatives"]] == [["new"], ["new"]]
    assert batch["label"]["pool"].tolist() == [1, 2] and collator.complete(batch) is batch
