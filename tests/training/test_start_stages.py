"""From a start of any family every stage runs to the exported model: the start passes through the stages that the parameters leave out and
goes on training in those that they name; each stage keeps the start's tokenizer, pooling follows the parameters, and the exported folder
gives plain sentence-transformers one vector for a text, alone or in a batch: that of the soft mask at its end."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tiny_starts import FAMILIES, FURTHER, save_start
from transformers import AutoTokenizer

from conan_lib.files import read_json
from conan_lib.model.backbone import load, to_sentence_transformer
from conan_lib.model.start import prepare_start
from conan_lib.model.tokenizer import train_tokenizer
from conan_lib.params import Params
from conan_lib.stages import open_stage
from conan_lib.training.arguments import arithmetic
from conan_lib.training.contrastive import train_supervised, train_weak
from conan_lib.training.lm import finetune, pretrain
from conan_lib.training.mine import mine_negatives
from tests.small_pairs import finish_sets, pair_params

TEXTS = ["the river runs", "der alte Bäcker öffnet früh seine Tür", "山高水长"]
TRAINED = {
    "pretrain": {"learning_rate": 1e-2, "batch_size": 4, "max_length": 32, "max_steps": 6, "validation_blocks": 2},
    "sft": {"learning_rate": 1e-2, "batch_size": 4, "max_length": 48, "max_steps": 6},
}
STAGES = {
    "start": prepare_start, "tokenizer": train_tokenizer, "pretrain": pretrain, "sft": finetune, "weak": train_weak, "mine": mine_negatives,
    "supervised": train_supervised,
}  # fmt: skip


def run_from(folder, root, pooling="mean", layers=2, last="supervised", **sections) -> Params:
    """Run every stage from a start to the `last` over made-up data; returns the parameters."""
    scratch = pair_params(
        root, weak={"pooling": pooling, "max_steps": 4, "precision": "auto"}, supervised={"max_steps": 6, "matryoshka_dims": [8, 16]}
    )
    own = scratch.model_dump(exclude={"tokenizer", "backbone", "pretrain", "sft", "model"})
    params = Params.model_validate(own | {"model": {"start": str(folder), "layers": layers}} | sections)
    finish_sets(params)
    for name in list(STAGES)[: list(STAGES).index(last) + 1]:
        assert STAGES[name](open_stage(name, params)).finished
    return params


def weights(params, name) -> dict[str, torch.Tensor]:
    return load(open_stage(name, params).path / "model").state_dict()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_start_that_is_not_trained_on_passes_through_to_the_embedder(family, tmp_path):
    params = run_from(save_start(family, tmp_path / "start"), tmp_path / "artefacts")
    start = open_stage("start", params).path / "model"
    for name in ("pretrain", "sft"):
        stage = open_stage(name, params)
        assert stage.results["passed_through"] and all(
            bits["before"] == bits["after"] > 0 for bits in stage.results["bits_per_byte"].values()
        )
        assert all((stage.path / "model" / file.name).samefile(file) for file in start.iterdir())
    rows = read_json(open_stage("sft", params).path / "generations.json")
    assert rows and all(row["before"] == row["after"] for row in rows)
    assert open_stage("weak", params).results["saved_as"] == "bidirectional"
    folder = open_stage("supervised", params).path / "model"
    config = read_json(folder / "config.json")
    assert config["is_causal"] is False and "soft_mask" not in str(config) and config["architectures"][0].endswith("Model")
    model = SentenceTransformer(str(folder))
    assert model.get_embedding_dimension() == 16 and model[0].model.config.model_type == FAMILIES[family].model_type
    assert model.tokenizer(TEXTS)["input_ids"] == AutoTokenizer.from_pretrained(start)(TEXTS)["input_ids"]
    alone, together = np.stack([model.encode(text) for text in TEXTS]), model.encode(TEXTS)
    np.testing.assert_allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize("family", FURTHER)
def test_a_start_of_a_further_family_leaves_the_weak_stage_as_a_stock_embedder(family, tmp_path):
    params = run_from(save_start(family, tmp_path / "start"), tmp_path / "artefacts", layers=1, last="weak")
    folder = open_stage("weak", params).path / "model"
    assert read_json(folder / "config.json")["is_causal"] is False
    assert open_stage("weak", params).results["precision"] == arithmetic("auto", "cpu")
    ours = to_sentence_transformer(folder, "mean", 32, attention="soft_mask", device="cpu").encode(TEXTS)
    np.testing.assert_allclose(SentenceTransformer(str(folder), device="cpu").encode(TEXTS), ours, atol=1e-5)


def test_a_start_goes_on_where_the_parameters_say_so(tmp_path):
    params = run_from(save_start("qwen3", tmp_path / "start"), tmp_path / "artefacts", pooling="lasttoken", **TRAINED)
    before = weights(params, "start")
    for name in ("pretrain", "sft"):
        stage, after = open_stage(name, params), weights(params, name)
        assert after.keys() == before.keys() and any(not torch.equal(after[key], before[key]) for key in before)
        assert "passed_through" not in stage.results and stage.results["precision"] == "fp32"
        assert len(read_json(stage.path / "history.json")) == 6 and not (stage.path / "random").exists()
        before = after
    assert SentenceTransformer(str(open_stage("supervised", params).path / "model"))[1].pooling_mode == "lasttoken"


def test_its_key_follows_the_start_and_what_is_left_out():
    def key(**sections):
        return open_stage("sft", Params(tier="test", **sections)).key

    start = {"start": "package:a"}
    keys = [key(), key(model=start), key(model=start | {"layers": 2}), key(model=start, pretrain={}), key(model=start, sft={})]
    assert len(set(keys)) == 5
    assert key() == key(model=None) and key(model=start) == key(model=start, pretrain=None)
