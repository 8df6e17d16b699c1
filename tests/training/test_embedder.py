"""Invariants: own pairs train through stages 3 and 4 without a stage; a run that was killed goes on to the same weights; the exported
model is stock, with its prompts; a text is encoded in training as sentence-transformers encodes it under its prompt, pooled or not; what
does not fit is one line."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from conan_lib.errors import UserError
from conan_lib.model.backbone import to_sentence_transformer
from conan_lib.params import Runtime
from conan_lib.params.training import LoraParams, MineParams, SupervisedParams, WeakParams
from conan_lib.training import embedder
from conan_lib.training.batch_loss import ContrastiveLoss
from conan_lib.training.batches import Task, TaskCollator, leave_out_prompts
from conan_lib.training.embedder import build_tasks, train_embedder
from conan_lib.training.mine import mine
from conan_lib.training.recorder import Recorder
from tests.small_pairs import small_encoder, tables

CPU = Runtime(device="cpu", save_steps=3)
ROWS = {"retrieval": [{"anchor": r["anchor"], "positive": r["positive"]} for r in tables()["retrieval"]],
        "sts": tables()["sts"]}  # fmt: skip
STAGE_4 = {"mix": {"retrieval": 2, "sts": 1}, "task_batch_size": {"retrieval": 4, "sts": 6}, "hard_negatives": 2,
           "matryoshka_dims": (8, 16), "max_steps": 9, "max_length": 24, "learning_rate": 1e-2, "dhnm": {"floor": 0.9}}  # fmt: skip
WEAK = WeakParams(batch_size=4, max_steps=6, max_length=24, learning_rate=1e-2)


def test_own_pairs_through_stages_3_and_4_killed_and_resumed(tmp_path, monkeypatch):
    weights = []
    for kill in (False, True):
        folder = tmp_path / str(kill)
        model = small_encoder(tmp_path / "start")
        train_embedder(model, {"weak": ROWS["retrieval"]}, WEAK, folder / "3", runtime=CPU)
        model = SentenceTransformer(str(folder / "3" / "model"), device="cpu")
        pools = mine(model, ROWS, MineParams(candidates=6, skip_ranks=1))
        if kill:
            with monkeypatch.context() as patch:
                patch.setattr(Recorder, "on_step_begin", dying_at(5))
                with pytest.raises(KeyboardInterrupt):
                    train_embedder(model, ROWS, SupervisedParams(**STAGE_4), folder / "4", pools, CPU)
            model = SentenceTransformer(str(folder / "3" / "model"), device="cpu")
        run = train_embedder(model, ROWS, SupervisedParams(**STAGE_4), folder / "4", pools, CPU)
        assert [row["step"] for row in run.history] == list(range(1, 10)) and run.pool.swaps > 0
        assert json.loads((folder / "4" / "history.json").read_text()) == run.history
        weights.append(load_file(folder / "4" / "model" / "model.safetensors"))
        if kill:  # a run that has ended, called again, is as it was
            model = SentenceTransformer(str(folder / "3" / "model"), device="cpu")
            assert train_embedder(model, ROWS, SupervisedParams(**STAGE_4), folder / "4", pools, CPU).history == run.history
            weights.append(load_file(folder / "4" / "model" / "model.safetensors"))
        plain = SentenceTransformer(str(folder / "4" / "model"), device="cpu", truncate_dim=8)
        assert plain.encode(["stone"]).shape == (1, 8)
    assert len(weights) == 3
    assert all(torch.equal(weights[0][name], other[name]) for other in weights for name in weights[0])


def test_adapters_and_embeddings_that_train_in_full_are_resumed(tmp_path, monkeypatch):
    options, weights = WEAK.model_copy(update={"lora": LoraParams(rank=2, embeddings=True)}), []
    for kill in (False, True):
        run = partial(train_embedder, rows={"weak": ROWS["retrieval"]}, options=options, folder=tmp_path / str(kill), runtime=CPU)
        if kill:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(Recorder, "on_step_begin", dying_at(4))
                run(small_encoder(tmp_path / "start"))
        run(small_encoder(tmp_path / "start"))
        weights.append(load_file(tmp_path / str(kill) / "model" / "model.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def dying_at(step: int):
    def on_step_begin(self, args, state, control, **_):
        if state.global_step == step:
            raise KeyboardInterrupt

    return on_step_begin


def test_checkpoints_of_other_options_are_refused(tmp_path):
    model = small_encoder(tmp_path / "start")
    train_embedder(model, {"weak": ROWS["retrieval"]}, WEAK, tmp_path / "run", runtime=CPU)
    longer = WEAK.model_copy(update={"max_steps": 8})
    with pytest.raises(UserError, match=r"checkpoints: of another run: max_steps 6 is now 8: choose another folder"):
        train_embedder(small_encoder(tmp_path / "start"), {"weak": ROWS["retrieval"]}, longer, tmp_path / "run", runtime=CPU)
    with pytest.raises(UserError, match=r"checkpoints: of another run: rows \w+ is now \w+: choose another folder"):
        train_embedder(small_encoder(tmp_path / "start"), {"weak": ROWS["retrieval"][1:]}, WEAK, tmp_path / "run", runtime=CPU)


def test_a_mistake_leaves_no_checkpoint_folder_behind_and_may_be_corrected(tmp_path):
    wrong = WEAK.model_copy(update={"lora": LoraParams(rank=2, targets=("q_proj", "nowhere"))})
    for options, message in ((wrong, "lora.targets: nowhere: no layer"), (WEAK.model_copy(update={"batch_size": 99}), "less than|99")):
        with pytest.raises(UserError, match=message):
            train_embedder(small_encoder(tmp_path / "start"), {"weak": ROWS["retrieval"]}, options, tmp_path / "run", runtime=CPU)
        assert not (tmp_path / "run").exists()


def test_rows_whose_negatives_are_empty_train_with_those_of_the_batch(tmp_path):
    rows = {"clustering": [row | {"negatives": []} for row in tables()["labels"] if row["task"] == "clustering"]}
    options = SupervisedParams(mix={"clustering": 1}, task_batch_size={"clustering": 12}, matryoshka_dims=(16,), max_steps=2, max_length=24)
    run = train_embedder(small_encoder(tmp_path / "start"), rows, options, tmp_path / "run", runtime=CPU)
    assert all(row["loss"] > 0 for row in run.history)


PROMPTS = {"retrieval": {"query": "question: ", "document": "passage: "}, "sts": {"query": "alike: ", "document": "alike: "}}


@pytest.mark.parametrize("pooled", [True, False])
def test_a_prompted_text_is_encoded_as_sentence_transformers_encodes_it(tmp_path, pooled):
    model = small_encoder(tmp_path / "start").eval()
    task = Task("retrieval", [ROWS["retrieval"][i] | {"negatives": [ROWS["retrieval"][i + 9]["anchor"]]} for i in range(5)], 5,
                prompts=("question: ", "passage: "))  # fmt: skip
    batch = TaskCollator([task], model.tokenizer, 32, pool_prompts=pooled)([{"task": 0, "row": i} for i in range(5)])
    model.set_pooling_include_prompt(pooled)
    hook = model[1].register_forward_pre_hook(leave_out_prompts)
    chunk = {name.removeprefix("chunk0_"): value for name, value in batch.items() if name != "label"}
    with torch.no_grad():
        vectors = model(chunk)["sentence_embedding"][batch["label"]["restore"]].numpy()
    hook.remove()
    for side, prompt, texts in (("anchor", "question: ", [r["anchor"] for r in task.rows]),
                                ("positive", "passage: ", [r["positive"] for r in task.rows]),
                                ("negatives", "passage: ", [r["negatives"][0] for r in task.rows])):  # fmt: skip
        np.testing.assert_allclose(vectors[batch["label"][side].flatten()], model.encode(texts, prompt=prompt), atol=1e-5)


def test_a_chat_template_changes_no_text(tmp_path):
    """Of a start that chats, texts are encoded as they were trained: as they are, ours and after reloading."""
    stock = small_encoder(tmp_path / "start")
    stock.tokenizer.chat_template = "{% for message in messages %}{{ '[system] Be kind. [user] ' + message['content'] }}{% endfor %}"
    stock.save(str(tmp_path / "chatting"))
    model = SentenceTransformer(str(tmp_path / "chatting"), device="cpu")
    model[0].modality_config = {**model[0].modality_config, "message": model[0].modality_config["text"] | {"format": "flat"}}
    model[0].input_formatter.supported_modalities = list(model[0].modality_config)  # as sentence-transformers opens a bare decoder
    texts = [row["anchor"] for row in ROWS["retrieval"][:4]]
    plain = [model.tokenizer(text)["input_ids"] for text in texts]
    assert [row[mask.bool()].tolist() for row, mask in _tokens(model, texts)] != plain
    train_embedder(model, {"weak": ROWS["retrieval"]}, WEAK, tmp_path / "3", runtime=CPU)
    for one in (model, SentenceTransformer(str(tmp_path / "3" / "model"), device="cpu")):
        assert one.tokenizer.chat_template and [row[mask.bool()].tolist() for row, mask in _tokens(one, texts)] == plain
    bare = to_sentence_transformer(tmp_path / "chatting", "mean", 24, device="cpu")
    assert [row[mask.bool()].tolist() for row, mask in _tokens(bare, texts)] == plain


def _tokens(model, texts):
    batch = model.preprocess(texts)
    return zip(batch["input_ids"], batch["attention_mask"], strict=True)


@pytest.mark.parametrize(("negative", "counts"), [("stone", False), ("river", True)])
def test_an_anchors_own_text_under_the_other_prompt_is_no_negative(tmp_path, negative, counts):
    model = small_encoder(tmp_path / "start")
    task = Task("retrieval", [{"anchor": "stone", "positive": "bridge", "negatives": [negative]}], 1, prompts=("q: ", "p: "))
    batch = TaskCollator([task], model.tokenizer, 24)([{"task": 0, "row": 0}])
    chunk = {name: batch[f"chunk0_{name}"] for name in ("input_ids", "attention_mask")}
    assert (ContrastiveLoss(model, [task], 0.1)([chunk], batch["label"]).item() > 0) is counts


def test_prompts_are_trained_mined_with_and_saved(tmp_path):
    trained = {}
    for prompts, pooled in ((None, None), (PROMPTS, None), (PROMPTS, False)):
        model = small_encoder(tmp_path / "start")
        options = SupervisedParams(**STAGE_4 | {"hard_negatives": 0, "max_steps": 3}, prompts=prompts, pool_prompts=pooled)
        train_embedder(model, ROWS, options, tmp_path / f"{bool(prompts)}-{pooled}", runtime=CPU)
        saved = SentenceTransformer(str(tmp_path / f"{bool(prompts)}-{pooled}" / "model"), device="cpu")
        trained[bool(prompts), pooled] = load_file(tmp_path / f"{bool(prompts)}-{pooled}" / "model" / "model.safetensors")
        assert saved.prompts == ({"query": "", "document": ""} if prompts is None
                                 else {"query": "question: ", "document": "passage: ", "STS": "alike: "})  # fmt: skip
        assert saved[1].include_prompt is (pooled is not False)
        np.testing.assert_allclose(saved.encode_query(["stone"]), model.encode_query(["stone"]), atol=1e-6)
    first, *others = trained.values()
    assert all(any(not torch.equal(first[name], other[name]) for name in first) for other in others)
    plain, prompted = small_encoder(tmp_path / "start"), small_encoder(tmp_path / "start")
    prompted.prompts = {"query": "question: ", "document": "passage: "}
    plain, prompted = (mine(one, ROWS, MineParams(candidates=4, skip_ranks=0)) for one in (plain, prompted))
    asked, passages = (prompted.search.queries[0].text, prompted.texts)
    again = small_encoder(tmp_path / "start")
    wanted = again.encode(f"question: {asked}") @ again.encode([f"passage: {text}" for text in passages]).T
    assert prompted.scores[0][0] == pytest.approx(wanted[prompted.candidates[0][0]], abs=1e-5)
    assert prompted.scores[0][0] != plain.scores[0][0]


def test_a_pool_with_too_few_candidates_is_told_in_the_names_of_the_parameters(tmp_path):
    model = small_encoder(tmp_path / "start")
    pools = mine(model, ROWS, MineParams(candidates=1, skip_ranks=0))
    told = (
        r"^supervised.hard_negatives: 2 are more than the 1 candidates of pool retrieval-0: mine more \(mine.candidates, mine.max_corpus\)"
    )
    with pytest.raises(UserError, match=told):
        train_embedder(model, ROWS, SupervisedParams(**STAGE_4), tmp_path / "run", pools, CPU)
    assert not (tmp_path / "run").exists()


def test_two_tasks_that_are_evaluated_alike_share_a_prompt():
    with pytest.raises(ValueError, match=r"prompts\.clr: tasks evaluated as Retrieval share one prompt"):
        SupervisedParams(prompts={"retrieval": {"query": "a: "}, "clr": {"query": "b: "}})


MISTAKES = {
    "no pools": ({}, ROWS, "task retrieval: hard_negatives is 2, but there are no pools"),
    "a task without a share": ({"mix": {"retrieval": 1}}, {"sts": ROWS["sts"]}, "task sts: mix and task_batch_size give it no share"),
    "balance alone": ({"balance": 0.8, "hard_negatives": 0}, {"sts": ROWS["sts"]}, "rows: of sts: balance needs sts and another task"),
    "nothing": ({}, {}, "rows: of no task: give some"),
    "another width": (
        {"matryoshka_dims": (8,), "hard_negatives": 0},
        ROWS,
        "matryoshka_dims: the last must be the model's width 16, not 8",
    ),
}


@pytest.mark.parametrize(("over", "rows", "message"), MISTAKES.values(), ids=MISTAKES)
def test_what_does_not_fit_is_one_line_and_writes_nothing(tmp_path, over, rows, message):
    with pytest.raises(UserError, match=message):
        train_embedder(small_encoder(tmp_path / "start"), rows, SupervisedParams(**STAGE_4 | over), tmp_path / "run", runtime=CPU)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="stage 3 trains the task weak alone, not retrieval"):
        build_tasks({"retrieval": []}, WEAK)


def test_a_prompt_that_leaves_no_room_for_a_text_is_not_mined_with(tmp_path):
    model, rows = small_encoder(tmp_path / "start"), [row | {"prompt": "stone " * 9} for row in ROWS["retrieval"]]
    assert len(mine(model, {"retrieval": rows}, MineParams(candidates=4, skip_ranks=0)).ids) == len(rows)
    model.max_seq_length = 12
    with pytest.raises(
        UserError, match=r"^mining with the model as it is: the prompt 'stone .*' has \d+ tokens, more than half of max_len"
    ):
        mine(model, {"retrieval": rows}, MineParams(candidates=4, skip_ranks=0))


@pytest.mark.parametrize("field", ["weak.snapshots", "supervised.dhnm.rule"])
def test_what_needs_the_whole_model_along_the_way_is_refused_under_fsdp(tmp_path, monkeypatch, field):
    """Its forward pass in one process would wait for the others for ever."""

    class Sharded(embedder.ContrastiveTrainer):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.is_fsdp_enabled = True

    monkeypatch.setattr(embedder, "ContrastiveTrainer", Sharded)
    model = small_encoder(tmp_path / "start")
    rows, options, pools = {"weak": ROWS["retrieval"]}, WEAK.model_copy(update={"snapshots": (0.5,)}), None
    if field == "supervised.dhnm.rule":
        pools = mine(model, ROWS, MineParams(candidates=4, skip_ranks=0))
        rows, options = ROWS, SupervisedParams(**STAGE_4 | {"dhnm": {"rule": "remined", "remine_interval": 2}})
    with pytest.raises(UserError, match=rf"^{field}: .*, or launch without FSDP, which has the weights in shares along the way$"):
        train_embedder(model, rows, options, tmp_path / "run", pools, CPU)


def test_pools_of_other_rows_are_refused(tmp_path):
    model = small_encoder(tmp_path / "start")
    pools = mine(model, {"retrieval": ROWS["retrieval"][:5]}, MineParams(candidates=3, skip_ranks=0))
    with pytest.raises(UserError, match="task retrieval: row retrieval-5 has no pool: mine for the rows that train"):
        train_embedder(model, ROWS, SupervisedParams(**STAGE_4), tmp_path / "run", pools, CPU)


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_the_model_is_put_where_the_parameters_say(tmp_path, device):
    model = small_encoder(tmp_path / "start")
    train_embedder(model, {"weak": ROWS["retrieval"]}, WEAK, tmp_path / "run", runtime=Runtime(device=device))
    assert model.device.type == ("cuda" if device == "auto" and torch.cuda.is_available() else "cpu")
    assert embedder.training_arguments(WEAK, Runtime(device=device), tmp_path)["use_cpu"] is (model.device.type == "cpu")


@pytest.mark.slow
def test_compiled_and_checkpointed_layers_train_as_plain_ones_and_compile_no_step_anew(tmp_path, monkeypatch):
    """On the compiler's own interpreter: what it would generate is not ours to test."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def compile_layer(layer):
        layer._compiled_call_impl = torch.compile(layer._call_impl, backend=backend)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_layer)
    plain = WeakParams(batch_size=6, max_length=32, max_steps=12, learning_rate=1e-3)
    switched = plain.model_copy(update={"compile": True, "gradient_checkpointing": True})
    losses = [
        [row["loss"] for row in train_embedder(small_encoder(tmp_path), {"weak": tables()["weak"]}, options, tmp_path / name).history]
        for name, options in (("plain", plain), ("switched", switched))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert 0 < len(graphs) < 12
