"""Language-model training: a killed run ends with the same weights as an uninterrupted one, bits per byte is the code length of exactly the
bytes that are predicted, the switches that save memory change rounding alone, and what is left out of the mix is not read."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from small_corpus import WORDS, documents, finish_data, sft_records, small_params
from torch.nn.functional import log_softmax
from transformers import Trainer

from conan_lib.data import records
from conan_lib.data.language_text import SCHEMA
from conan_lib.data.packing import Blocks, balanced_order
from conan_lib.errors import UserError
from conan_lib.model.backbone import build, load
from conan_lib.model.tokenizer import token_bytes, train_bpe, train_tokenizer
from conan_lib.params.model import BackboneParams, TokenizerParams
from conan_lib.params.training import PretrainParams
from conan_lib.stages import open_stage
from conan_lib.training import lm
from conan_lib.training.lm import bits_per_byte, finetune, pack_documents, pretrain, validation_batches

STAGES = {"pretrain": pretrain, "sft": finetune}


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([document["text"] for document in documents()], TokenizerParams(vocab_size=320))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run up to SFT, uninterrupted; save_steps is far away, so it wrote no checkpoint but the last."""
    params = small_params(tmp_path_factory.mktemp("artefacts"), runtime={"save_steps": 1000})
    finish_data(params)
    train_tokenizer(open_stage("tokenizer", params))
    for name, run in STAGES.items():
        run(open_stage(name, params))
    return params


def weights(stage) -> dict[str, torch.Tensor]:
    return load(stage.path / "model").state_dict()


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", STAGES)
def test_a_killed_run_ends_with_the_same_weights(finished, tmp_path, monkeypatch, name):
    source = open_stage(name, finished)
    root = tmp_path / "artefacts"
    shutil.copytree(source.path.parents[1], root, ignore=shutil.ignore_patterns(source.key))
    stage = open_stage(name, small_params(root, runtime={"save_steps": 3}))
    assert stage.key == source.key and stage.status == "new"
    step, save = Trainer.training_step, Trainer._save_rng_state

    def killed_at_step(self, *arguments):
        if self.state.global_step == 4:
            raise Killed
        return step(self, *arguments)

    def killed_in_checkpoint(self, folder):
        if self.state.global_step == 6:
            raise Killed
        return save(self, folder)

    for method, replacement in (("training_step", killed_at_step), ("_save_rng_state", killed_in_checkpoint)):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Trainer, method, replacement)
            STAGES[name](stage)
        assert stage.status == "partial"
    assert (stage.path / "checkpoints" / "checkpoint-6").is_dir()  # half a checkpoint, which must not be used
    STAGES[name](stage)
    for key, tensor in weights(source).items():
        assert torch.equal(weights(stage)[key], tensor), key
    rows, expected = (json.loads((s.path / "history.json").read_text()) for s in (stage, source))
    assert [(r["step"], r["loss"], r["learning_rate"]) for r in rows] == [(r["step"], r["loss"], r["learning_rate"]) for r in expected]
    assert stage.results["bits_per_byte"] == source.results["bits_per_byte"]
    assert not (stage.path / "checkpoints").exists()


@pytest.mark.parametrize("name", STAGES)
def test_killed_after_its_last_step_it_trains_no_further(tmp_path, monkeypatch, name):
    """Killed while it measures. At a constant rate one step more would show in the weights, as the steps are no whole number of epochs."""
    steps = {"pretrain": 12, "sft": 9}
    common = {"schedule": "constant", "learning_rate": 5e-3, "batch_size": 4, "max_length": 48}
    params = small_params(tmp_path / "artefacts", **{stage: common | {"max_steps": count} for stage, count in steps.items()})
    finish_data(params)
    train_tokenizer(open_stage("tokenizer", params))
    if name == "sft":
        pretrain(open_stage("pretrain", params))
    stage, measure, kept = open_stage(name, params), lm.bits_per_byte, []

    def killed(model, **arguments):
        if (stage.path / "checkpoints").exists():
            kept.append({key: tensor.clone() for key, tensor in model.state_dict().items()})
            raise Killed
        return measure(model, **arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(lm, "bits_per_byte", killed)
        STAGES[name](stage)
    STAGES[name](stage)
    assert all(torch.equal(tensor, kept[0][key]) for key, tensor in weights(stage).items())
    rows = json.loads((stage.path / "history.json").read_text())
    assert [row["step"] for row in rows] == list(range(1, steps[name] + 1))


@pytest.mark.parametrize("name", STAGES)
def test_the_switches_that_save_memory_change_rounding_alone(finished, tmp_path, name):
    source = open_stage(name, finished)
    root = tmp_path / "artefacts"
    shutil.copytree(source.path.parents[1], root, ignore=shutil.ignore_patterns(source.key))
    switches = {"gradient_accumulation": 2, "gradient_checkpointing": True, "fused_loss": True}
    section = getattr(finished, name).model_copy(update=switches)
    stage = open_stage(name, finished.model_copy(update={name: section, "runtime": small_params(root).runtime}))
    assert stage.key != source.key
    STAGES[name](stage)
    rows, expected = (json.loads((s.path / "history.json").read_text()) for s in (stage, source))
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in expected], rel=1e-4)
    for key, tensor in weights(source).items():
        torch.testing.assert_close(weights(stage)[key], tensor, rtol=1e-3, atol=1e-4)


def test_a_batch_that_cannot_be_shared_out_is_one_clear_line(finished):
    params = finished.model_copy(update={"pretrain": finished.pretrain.model_copy(update={"gradient_accumulation": 3})})
    with pytest.raises(UserError, match=r"^pretrain\.batch_size: 4 is not divisible by the 1 devices of this run x 3 parts"):
        pretrain(open_stage("pretrain", params))


def test_fewer_records_than_a_batch_are_one_clear_line_and_leave_no_trace(finished):
    """120 records, of which 6 are held out; one whole batch is enough."""
    with_batch = lambda size, **more: finished.model_copy(  # noqa: E731
        update={"sft": finished.sft.model_copy(update={"batch_size": size, "max_steps": 1, "max_length": 8, **more})}
    )
    for more in ({}, {"gradient_accumulation": 5}):
        stage = open_stage("sft", with_batch(115, **more))
        with pytest.raises(UserError, match=r"^sft\.batch_size: 115 is more than the 114 records that train: lower it, or add data$"):
            finetune(stage)
        assert stage.status == "new"
    rows = json.loads((finetune(open_stage("sft", with_batch(114))).path / "history.json").read_text())
    assert [row["step"] for row in rows] == [1]


def test_pretraining_learns_and_records_it(finished):
    stage = open_stage("pretrain", finished)
    rows = json.loads((stage.path / "history.json").read_text())
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[-1]["loss"] < rows[0]["loss"] < math.log(320) + 0.2
    rates = [row["learning_rate"] for row in rows]  # one step of warm-up, then a cosine to zero
    np.testing.assert_allclose(rates, [0, *(5e-3 * (1 + np.cos(np.pi * np.arange(11) / 11)))], atol=1e-9)
    assert set(stage.results["bits_per_byte"]) == set(WORDS)
    assert all(found["after"] < found["before"] for found in stage.results["bits_per_byte"].values())
    random = load(stage.path / "random").state_dict()
    initial = build(finished.backbone, 320, finished.pretrain.seed).state_dict()
    assert all(torch.equal(random[name], tensor) for name, tensor in initial.items())


def test_sft_learns_and_shows_what_it_says(finished):
    stage = open_stage("sft", finished)
    assert all(found["after"] < found["before"] for found in stage.results["bits_per_byte"].values())
    shown = json.loads((stage.path / "generations.json").read_text())
    assert {row["lang"] for row in shown} == set(stage.results["bits_per_byte"])
    assert all(isinstance(row["before"], str) and isinstance(row["after"], str) for row in shown)
    assert stage.results["records"] + stage.results["held_out"] == len(sft_records())


def test_bits_per_byte_counts_exactly_what_is_predicted(tokenizer):
    section = PretrainParams(max_length=32, max_steps=1, batch_size=1, validation_blocks=3)
    model = build(BackboneParams(layers=1, hidden_size=16, heads=4, kv_heads=2, ffn_size=24, context_length=64), 320, 0).double().eval()
    batches = validation_batches([d for d in documents() if d["split"] == "dev"], tokenizer, section)
    found = bits_per_byte(model, batches, token_bytes(tokenizer))
    for language, own in batches.items():
        bits = size = 0
        for batch in own:
            for ids, places in zip(batch["input_ids"], batch["position_ids"], strict=True):
                for start in (places == 0).nonzero().flatten().tolist():
                    end = next((i for i in range(start + 1, 32) if places[i] == 0), 32)
                    piece = ids[start:end]
                    logp = log_softmax(model(input_ids=piece[None]).logits[0].detach(), -1)
                    bits -= sum(logp[i - 1, piece[i]].item() for i in range(1, len(piece))) / math.log(2)
                    letters = tokenizer.convert_ids_to_tokens(piece[1:].tolist())
                    size += sum(len(token) for token in letters if token not in ("<s>", "</s>"))
        assert found[language] == pytest.approx(bits / size, rel=1e-9)


def packed(folder, tokenizer, rows=None, **section):
    """The blocks of a run of these settings on these documents."""
    records.write(folder / "documents.parquet", documents() if rows is None else rows, SCHEMA)
    section = PretrainParams.model_validate({"max_length": 32, "batch_size": 4, "max_steps": 10_000, **section})
    return pack_documents(folder / "documents.parquet", tokenizer, section, folder / "tokens", 1)


@pytest.mark.parametrize("kind", ["news", "parallel"])
def test_the_mix_leaves_out_held_out_documents_and_what_it_is_told_to(kind, tokenizer, tmp_path):
    def texts(choice):
        blocks = packed(tmp_path, tokenizer, **{kind: choice})
        return {tokenizer.decode(blocks.documents[number], skip_special_tokens=True) for number in range(len(blocks.documents))}

    train = [row for row in documents() if row["split"] == "train"]
    assert {"news", "parallel"} < {row["kind"] for row in train}
    assert texts(True) == {row["text"] for row in train}
    assert texts(False) == {row["text"] for row in train if row["kind"] != kind}


def test_blocks_are_those_of_a_list_of_documents_read_until_the_run_has_its_tokens(tokenizer, tmp_path, monkeypatch):
    """Oracle: the tokenizer's own call, five documents at a time in the balanced order, packed in memory."""
    monkeypatch.setattr(lm, "READ_AT_ONCE", 5)
    train = [row for row in documents() if row["split"] == "train"]
    order = balanced_order([row["lang"] for row in train], [len(row["text"]) for row in train], 1.0, 0)
    ids = tokenizer([train[number]["text"] for number in order])["input_ids"]
    for steps, long_token in ((2, 8), (2, 1), (5, 8), (10_000, 8)):
        monkeypatch.setattr(lm, "LONG_TOKEN", long_token)
        read, needed = 0, steps * 4 * 32
        while read < len(ids) and sum(map(len, ids[:read])) < needed:
            read += 5
        blocks, oracle = packed(tmp_path, tokenizer, max_steps=steps), Blocks(ids[:read], 32)
        assert len(blocks) == len(oracle)
        for name, tensor in oracle[:].items():
            assert torch.equal(blocks[:][name], tensor), name
    with pytest.raises(UserError, match=r"pretrain.batch_size: 5000 is more than the"):
        packed(tmp_path, tokenizer, batch_size=5000)
    assert not (tmp_path / "tokens").exists()


@pytest.mark.parametrize(
    ("keep", "line"),
    [
        (lambda row: row["kind"] == "news" or row["split"] == "dev", "no document of split train is left"),
        (lambda row: row["split"] == "train", "no language of split dev fills a block of 32 tokens"),
    ],
)
def test_missing_documents_are_one_clear_line(tmp_path, keep, line):
    params = small_params(tmp_path, pretrain={"max_length": 32, "max_steps": 1, "batch_size": 1, "news": False})
    params = params.model_copy(update={"tokenizer": TokenizerParams(vocab_size=300, sample_texts=150)})
    finish_data(params, [row for row in documents() if keep(row)])
    train_tokenizer(open_stage("tokenizer", params))
    with pytest.raises(UserError, match=line):
        pretrain(open_stage("pretrain", params))


def test_a_missing_gpu_is_one_clear_line(finished, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    params = small_params(
        open_stage("corpus", finished).path.parents[1], runtime={"device": "cuda"}, pretrain={"max_length": 32, "seed": 5}
    )
    with pytest.raises(UserError, match=r"runtime.device: cuda, but torch finds no GPU"):
        pretrain(open_stage("pretrain", params))
