"""Invariants: with LoRA the adapters alone have gradients; at first they change nothing; merged, the model is a stock one with the vectors
of the unmerged one; a stage trained with it moves each adapted matrix by at most the rank and nothing else."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from conan_lib.attention import merge_adapters
from conan_lib.errors import UserError
from conan_lib.model.backbone import to_sentence_transformer
from conan_lib.params.training import LoraParams
from conan_lib.stages import open_stage
from conan_lib.training.contrastive import train_weak
from conan_lib.training.lora import add_lora
from tests.small_pairs import finish_inputs, pair_params

TEXTS = ["the old stone bridge", "children throw boats", "山高水长"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    params = pair_params(tmp_path_factory.mktemp("inputs"), weak={"lora": {"rank": 2, "targets": ["o_proj", "down_proj"]}})
    finish_inputs(params)
    return params


@pytest.fixture
def model(inputs) -> SentenceTransformer:
    return to_sentence_transformer(open_stage("sft", inputs).path / "model", "mean", 32, device="cpu")


def test_adapters_alone_train_and_merging_leaves_a_stock_model(model, tmp_path):
    before, names = model.encode(TEXTS), set(model.state_dict())
    add_lora(model, LoraParams(rank=3), seed=0)
    np.testing.assert_allclose(model.encode(TEXTS), before, atol=1e-6)
    model(model.preprocess(TEXTS))["sentence_embedding"].square().sum(0).max().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {name for name in model.state_dict() if "lora_" in name} and len(trained) == 2 * 7
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    unmerged = model.encode(TEXTS)
    assert np.abs(unmerged - before).max() > 1e-2
    merge_adapters(model)
    assert set(model.state_dict()) == names and all(parameter.requires_grad for parameter in model.parameters())
    np.testing.assert_allclose(model.encode(TEXTS), unmerged, atol=1e-5)
    model.save(str(tmp_path / "model"), create_model_card=False)
    assert not list((tmp_path / "model").rglob("adapter*"))
    np.testing.assert_allclose(SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS), unmerged, atol=1e-5)


def test_the_embeddings_train_in_full_where_they_are_asked_for_and_the_model_is_a_stock_one_afterwards(model):
    before, names = model.encode(TEXTS), set(model.state_dict())
    weight = model.transformers_model.get_input_embeddings().weight.detach().clone()
    add_lora(model, LoraParams(rank=3, embeddings=True), seed=0)
    np.testing.assert_allclose(model.encode(TEXTS), before, atol=1e-6)
    optimiser = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1.0)
    model(model.preprocess(TEXTS))["sentence_embedding"].square().sum(0).max().backward()
    assert any("embed_tokens" in name for name, parameter in model.named_parameters() if parameter.grad is not None)
    optimiser.step()
    unmerged = model.encode(TEXTS)
    merge_adapters(model)
    assert set(model.state_dict()) == names and all(parameter.requires_grad for parameter in model.parameters())
    moved = (model.transformers_model.get_input_embeddings().weight - weight).abs().sum(1) > 0
    assert 0 < moved.sum() < len(moved), "only the tokens of the texts have a gradient"
    np.testing.assert_allclose(model.encode(TEXTS), unmerged, atol=1e-5)


def test_the_scale_is_alpha_over_rank(model):
    add_lora(model, LoraParams(rank=4), seed=0)
    assert model.transformers_model.layers[0].self_attn.q_proj.scaling == {"default": 2.0}


def test_a_target_that_no_layer_has_is_a_users_mistake_beside_right_ones_too(model):
    before = set(model.state_dict())
    for targets in (("query", "v_porj"), ("q_proj", "query", "v_porj", "norm")):
        wrong = ", ".join(targets[targets.index("query") :])
        with pytest.raises(UserError, match=rf"^lora.targets: {wrong}: no layer of the backbone is called so: choose from q_proj, k_proj"):
            add_lora(model, LoraParams(rank=2, targets=targets), seed=0)
    assert set(model.state_dict()) == before


def test_a_stage_moves_its_targets_within_the_rank_and_nothing_else(inputs):
    stage = train_weak(open_stage("weak", inputs))
    start = load_file(stage.inputs["sft"].path / "model" / "model.safetensors")
    end = load_file(stage.path / "model" / "model.safetensors")
    moved = {}
    for name, weight in end.items():
        difference = weight - start["model." + name]
        if difference.abs().max() > 0:
            moved[name] = int((torch.linalg.svdvals(difference) > 1e-5).sum())
    assert moved == {"layers.0.self_attn.o_proj.weight": 2, "layers.0.mlp.down_proj.weight": 2}
