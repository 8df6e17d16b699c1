"""Invariants: the registry is the one place of a task: a made-up one is mined, mixed and trained by its entry alone; what a row lacks is
named; rows keep what they bring; a pool is the anchor's or the passage's."""

import pytest

from conan_lib.errors import UserError
from conan_lib.params.training import MineParams, SupervisedParams, WeakParams
from conan_lib.training.embedder import build_tasks, train_embedder
from conan_lib.training.mine import mine
from conan_lib.training.tasks import TASKS, TaskSpec
from tests.small_pairs import small_encoder, tables


def test_a_made_up_task_is_an_entry_of_the_registry(tmp_path, monkeypatch):
    """Titles that ask for their verse, with negatives of their own before those that are mined."""
    monkeypatch.setitem(
        TASKS,
        "verses",
        TaskSpec("verses", "passages", "Retrieval", negatives="pool", owns=lambda r: r["lang"] == "en", row=lambda r: {
            "anchor": r["text"][:12], "positive": r["text"], "negatives": [f"not {r['id']}"]}),
    )  # fmt: skip
    model = small_encoder(tmp_path / "start")
    rows = {"verses": TASKS["verses"].rows(tables()["passages"])}
    options = SupervisedParams(
        mix={"verses": 1}, task_batch_size={"verses": 5}, hard_negatives=2, matryoshka_dims=(8, 16), max_steps=2, max_length=16
    )
    pools = mine(model, rows, MineParams(candidates=3, skip_ranks=0))
    assert all(pools.texts[row[0]] == f"not p{number}" for number, row in enumerate(pools.candidates))
    run = train_embedder(model, rows, options, tmp_path / "run", pools)
    assert [row["task"] for row in run.history] == ["verses", "verses"] and all(row["mean_score"] for row in run.history)
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_a_task_that_is_not_registered_is_refused():
    with pytest.raises(ValueError, match=f"mix: no task verses: choose from {', '.join(TASKS)}"):
        SupervisedParams(mix={"verses": 1})
    with pytest.raises(UserError, match="no task verses: choose from"):
        build_tasks({"verses": []}, SupervisedParams())


PAIR = {"anchor": "a", "positive": "p"}
MISTAKES = {
    "no positive": ("retrieval", [PAIR, {"anchor": "a"}], "task retrieval: row 1: positive: None must be a text"),
    "a score of letters": ("sts", [PAIR | {"score": "5"}], "task sts: row 0: score: '5' must be a number"),
    "one negative without a list": ("clustering", [PAIR | {"negatives": "n"}], "row 0: negatives: 'n' must be a list of texts"),
}


@pytest.mark.parametrize(("task", "rows", "message"), MISTAKES.values(), ids=MISTAKES)
def test_what_a_row_lacks_is_named(task, rows, message):
    with pytest.raises(UserError, match=message):
        TASKS[task].checked(rows)


def test_rows_are_numbered_unless_they_have_ids():
    rows = TASKS["retrieval"].checked([PAIR | {"id": None, "negatives": None}, PAIR | {"id": "mine", "positive_id": "p7"}])
    assert [(row["id"], row["positive_id"]) for row in rows] == [("retrieval-0", "p"), ("mine", "p7")]
    assert "negatives" not in rows[0]


def test_weak_pairs_train_with_the_negatives_of_the_batch_whatever_their_rows_bring():
    rows = [PAIR | {"negatives": ["n"] * number} for number in range(4)]
    (task,) = build_tasks({"weak": rows}, WeakParams(batch_size=2))
    assert list(task.rows) == [PAIR | {"lang": "", "id": f"weak-{number}"} for number in range(4)]


def test_a_pool_is_the_anchors_or_the_passages():
    row = PAIR | {"id": "1", "positive_id": "p7"}
    assert (TASKS["retrieval"].pool_id(row), TASKS["retrieval"].query(row)) == ("1", "a")
    assert (TASKS["clr"].pool_id(row), TASKS["clr"].query(row)) == ("p7", "p")


def test_the_defaults_are_those_of_the_registry_and_of_the_paper():
    """3.0, 3.0, 1.8 and 2.8 million pairs; batches of 4, 4 and 32. The weak pairs train in stage 4 only where they are named."""
    assert SupervisedParams().mix == {"retrieval": 3.0, "clr": 3.0, "sts": 1.8, "classification": 1.4, "clustering": 1.4}
    assert SupervisedParams().task_batch_size == {"retrieval": 4, "clr": 4, "sts": 32, "classification": 4, "clustering": 4}
    assert SupervisedParams(mix={"weak": 1}, task_batch_size={"weak": 8}).mix == {"weak": 1}
