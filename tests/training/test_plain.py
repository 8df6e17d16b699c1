"""Invariants: plain training is given the rows that our stages draw, as often, with the first mined negatives, and says how many of them
its steps saw; its losses are those of sentence-transformers, its rates and saved prompts ours, and it stays as causal as it is told; what
it cannot do it refuses; killed in either part and resumed, its weights are those of an uninterrupted run."""

from collections import Counter

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss

from conan_lib.errors import RunError, UserError
from conan_lib.stages import open_stage
from conan_lib.training import embedder, plain
from conan_lib.training.batches import Task, TaskBatchSampler
from conan_lib.training.contrastive import pools_for, supervised_rows, train_supervised
from conan_lib.training.embedder import build_tasks
from conan_lib.training.mine import load_pools, mine_negatives
from conan_lib.training.plain import train_plain
from conan_lib.training.recorder import last_checkpoint
from tests.small_pairs import finish_weak, pair_params
from tests.training.test_contrastive import kill_at


def ready_plain(folder, **sections):
    params = pair_params(folder, **sections)
    finish_weak(params)
    mine_negatives(open_stage("mine", params))
    return open_stage("plain", params)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished stage, and the arguments of its two trainers."""
    seen = []

    class Watched(plain._Trainer):
        def __init__(self, **options):
            seen.append(options)
            super().__init__(**options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "_Trainer", Watched)
        return train_plain(ready_plain(tmp_path_factory.mktemp("plain"))), seen


@pytest.fixture(scope="module")
def bidirectional(tmp_path_factory):
    """A finished stage that reads both ways, and whose batches may hold a text twice."""
    options = {"attention": "bidirectional", "duplicates": True}
    return train_plain(ready_plain(tmp_path_factory.mktemp("both"), plain=options, weak={"max_steps": 2}))


def given(options) -> Counter:
    """The rows that a trainer is given, by task, anchor and positive."""
    return Counter((name, row["anchor"], row["positive"]) for name, rows in options["train_dataset"].items() for row in rows)


def test_it_is_given_the_rows_that_our_trainer_draws(trained):
    stage, (_, second) = trained
    rows = supervised_rows(stage)
    tasks = build_tasks(rows, stage.supervised, pools_for(stage, rows))
    sampler = TaskBatchSampler(tasks, stage.supervised.max_steps, stage.supervised.seed)
    ours = Counter()
    for task, number in (sampler.at(place) for batch in sampler for place in batch):
        ours[task.name, task.rows[number]["anchor"], task.rows[number]["positive"]] += 1
    assert given(second) == ours and len(second["train_dataset"]) == 5
    said = stage.results["supervised"]
    assert sum(said["rows"].values()) == ours.total()
    assert said["batch_size"] == round(ours.total() / stage.supervised.max_steps) > 1


def test_it_says_what_its_steps_saw(trained):
    """Three labels share their words, so a batch without duplicates holds one of their rows; no two pairs of weak training are alike."""
    stage, _ = trained
    weak, supervised = stage.results["weak"], stage.results["supervised"]
    assert weak["seen"] == weak["rows"] == {"weak en": stage.weak.max_steps * stage.weak.batch_size}
    assert weak["steps"] == {"weak en": stage.weak.max_steps}
    assert sum(supervised["steps"].values()) == stage.supervised.max_steps
    assert supervised["seen"]["clustering"] == supervised["steps"]["clustering"] < supervised["rows"]["clustering"]


def test_with_duplicates_every_batch_is_full_but_the_last_of_a_set(bidirectional):
    said = bidirectional.results["supervised"]
    for name, rows in said["rows"].items():
        assert said["seen"][name] == min(rows, said["steps"][name] * said["batch_size"]), name


def test_shares_companions_and_saved_prompts_are_those_of_our_trainer(tmp_path, monkeypatch):
    """Our own sampler is the one that our own stage makes. What stands before queries in training does so in the evaluation."""
    samplers, seen = [], []

    class Noted(TaskBatchSampler):
        def __init__(self, *args):
            samplers.append(self)
            super().__init__(*args)

    class Watched(plain._Trainer):
        def __init__(self, **options):
            seen.append(options)
            super().__init__(**options)

    prompts = {name: {"query": "find: ", "document": "text: "} for name in ("retrieval", "clr")}
    options = {"share_temperature": 3.0, "balance": 0.8, "prompts": prompts}
    stage = ready_plain(tmp_path, weak={"max_steps": 2}, supervised={"max_steps": 8, **options})
    monkeypatch.setattr(embedder, "TaskBatchSampler", Noted)
    monkeypatch.setattr(plain, "_Trainer", Watched)
    own = train_supervised(open_stage("supervised", stage.params))
    train_plain(stage)
    ours = Counter(task.name for task, _ in map(samplers[0].at, [place for batch in samplers[0] for place in batch]))
    assert Counter(name for name, *_ in given(seen[1]).elements()) == ours
    saved = [SentenceTransformer(str(one.path / "model"), device="cpu").prompts for one in (stage, own)]
    assert saved[0] == saved[1] == {"query": "find: ", "document": "text: "}


def test_embeddings_learn_at_their_own_rate(tmp_path):
    """One step: what AdamW adds to a weight is its rate, whatever the gradient."""
    one = {"max_steps": 1, "warmup_ratio": 0, "learning_rate": 1e-5, "embedding_rate": 50.0}
    stage = train_plain(ready_plain(tmp_path, weak=one, supervised=one))
    before = load_file(stage.inputs["sft"].path / "model" / "model.safetensors")
    after = load_file(stage.path / "model" / "model.safetensors")
    moved = {name: (weight - before[f"model.{name}"]).abs().max().item() for name, weight in after.items() if weight.ndim > 1}
    embeddings = moved.pop("embed_tokens.weight")
    assert embeddings / max(moved.values()) == pytest.approx(50, rel=0.1)


@pytest.mark.parametrize("section", ["weak", "supervised"])
@pytest.mark.parametrize("options, named", [({"lora": {"rank": 2}}, "lora"), ({"pool_prompts": False}, "pool_prompts")])
def test_what_it_cannot_do_is_refused(tmp_path, section, options, named):
    stage = ready_plain(tmp_path, **{section: options})
    with pytest.raises(UserError, match=rf"stage plain: {section}\.{named}: .*: leave it out"):
        train_plain(stage)
    assert stage.status == "new"


def test_a_prompt_that_leaves_no_room_for_a_text_is_refused(tmp_path):
    stage = ready_plain(tmp_path, weak={"prompts": {"weak": {"query": "stone " * 20}}})
    with pytest.raises(UserError, match=r"^task weak en: the prompt 'stone .* more than half of max_length 32, .*: raise max_length"):
        train_plain(stage)
    assert stage.status == "new"


def test_a_launch_of_two_is_refused(tmp_path, monkeypatch):
    """It would wait for the second process, which waits for the stage."""
    stage = ready_plain(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="stage plain trains in one process: run it without a launch"):
        train_plain(stage)
    assert stage.status == "new"


@pytest.mark.parametrize("options", [{"hard_negatives": 0}, {"mix": {"sts": 1}, "hard_negatives": 0}])
def test_without_pools_it_trains_with_the_negatives_of_the_batch(tmp_path, options):
    stage = train_plain(ready_plain(tmp_path, weak={"max_steps": 1}, supervised={"max_steps": 4, **options}))
    assert sum(stage.results["supervised"]["steps"].values()) == 4


def test_its_negatives_are_the_first_that_were_mined(trained):
    stage, (_, second) = trained
    pools = load_pools(stage)
    by_anchor = {row["anchor"]: row for row in supervised_rows(stage)["retrieval"]}
    for row in second["train_dataset"]["retrieval"]:
        number = pools.number(by_anchor[row["anchor"]]["id"])
        assert [row[f"negative_{k}"] for k in range(3)] == [pools.texts[place] for place in pools.candidates[number][:3]]


def test_losses_are_those_of_sentence_transformers_at_our_temperature(trained):
    stage, (first, second) = trained
    assert {name: type(loss) for name, loss in second["loss"].items()} == {
        name: CoSENTLoss if name == "sts" else MultipleNegativesRankingLoss for name in second["train_dataset"]
    }
    assert [loss.scale for loss in first["loss"].values()] == [1 / stage.weak.temperature]
    assert second["loss"]["sts"].scale == 1 / stage.supervised.cosent_temperature
    assert (first["args"].max_steps, second["args"].max_steps) == (stage.weak.max_steps, stage.supervised.max_steps)


@pytest.mark.parametrize("attention, moves", [("causal", False), ("bidirectional", True)])
def test_the_mask_is_what_is_asked_for(trained, bidirectional, attention, moves):
    """A later word changes an earlier state, or it does not."""
    stage = bidirectional if moves else trained[0]
    model = SentenceTransformer(str(stage.path / "model"), device="cpu")
    short, long = (model.encode(text, output_value="token_embeddings")[1] for text in ("stone bridge", "stone bridge water bread"))
    assert (not torch.allclose(short, long, atol=1e-6)) == moves
    assert stage.results["saved_as"] == attention


def test_without_weak_pairs_only_the_second_part_trains(tmp_path, monkeypatch):
    """As in our own stage, whatever the parameters promise: filters may leave no pair."""
    stage = ready_plain(tmp_path, supervised={"max_steps": 2})
    monkeypatch.setattr(plain, "mapped", lambda *_: [])
    assert set(train_plain(stage).results) == {"saved_as", "precision", "supervised"}


def test_killed_in_both_parts_and_resumed_it_ends_in_the_same_weights(trained, tmp_path, monkeypatch):
    whole, _ = trained
    stage = ready_plain(tmp_path, runtime={"save_steps": 5})
    assert stage.key == whole.key
    for part, step in (("weak", 8), ("supervised", 13)):
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(KeyboardInterrupt):
                train_plain(stage)
        assert last_checkpoint(stage.path / "checkpoints" / part).name == f"checkpoint-{step // 5 * 5}" and stage.status == "partial"
    train_plain(stage)
    assert stage.results == whole.results
    weights, again = (load_file(one.path / "model" / "model.safetensors") for one in (whole, stage))
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_a_pool_that_is_too_small_is_named():
    pools = type("P", (), {"texts": ["a", "b"], "candidates": [[0, 1, -1]]})()
    row = {"id": "q7", "anchor": "x", "positive": "y", "pool": 0}
    task = Task("retrieval", [row], 1)
    assert plain._columns(row, task, pools, 2)["negative_1"] == "b"
    with pytest.raises(UserError, match="task retrieval: the pool of q7 has 2 candidates, not 3: mine more"):
        plain._columns(row, task, pools, 3)


def test_weights_that_are_no_numbers_end_it(tmp_path):
    stage = ready_plain(tmp_path, plain={"rate": 1e30}, weak={"max_steps": 3, "max_grad_norm": 1e30})
    with pytest.raises(RunError, match=r"weights are not finite after weak: lower plain\.rate"):
        train_plain(stage)
