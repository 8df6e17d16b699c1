"""Pins: a model at an end of the transition becomes a stock one with equal vectors, in memory and in a folder, with its adapters merged;
what has no such form is refused and unchanged, or not written; a transformers that cannot read `is_causal: false` stops at the folder."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma2Model,
    LlamaModel,
    NemotronConfig,
    NemotronModel,
    StableLmConfig,
    StableLmModel,
    configuration_utils,
)

from conan_lib.attention import save_stock, set_soft_mask, to_stock
from conan_lib.errors import UserError
from tests.tiny_models import SIZES, states, tiny, tokens

LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="FEATURE_EXTRACTION")


@pytest.mark.parametrize(("alpha", "causal"), [(1.0, False), (0.0, True)])
def test_to_stock_keeps_the_vectors_and_names_nothing_of_ours(tmp_path, alpha, causal):
    model = tiny(alpha=alpha, backend="halves")
    ids = tokens()
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    ours = states(model, ids, mask)
    to_stock(model)
    model.save_pretrained(tmp_path)
    assert "soft_mask" not in (tmp_path / "config.json").read_text()
    stock = LlamaModel.from_pretrained(tmp_path)
    assert stock.config._attn_implementation == "sdpa" and stock.config.is_causal is causal
    torch.testing.assert_close(states(stock, ids, mask) * mask[..., None], ours * mask[..., None], rtol=1e-5, atol=1e-5)
    for between in ({"alpha": 0.5}, {"ratio": "i/l"}, {"alpha": 0.0, "reading": "logit"}):
        with pytest.raises(UserError, match=r"neither causal nor bidirectional.*: finish the schedule, or set_soft_mask\(model, alpha=1"):
            to_stock(tiny(**between))


@pytest.mark.parametrize(("config_class", "model_class"), [(StableLmConfig, StableLmModel), (NemotronConfig, NemotronModel)])
def test_to_stock_refuses_what_stays_causal_without_padding_and_changes_nothing_then(tmp_path, config_class, model_class):
    model = tiny(config_class, model_class, alpha=1.0).train()
    model.layers[0].eval()
    before, modes, ours = model.config.to_dict(), [module.training for module in model.modules()], states(model, tokens())
    with pytest.raises(UserError, match=rf'a stock {model_class.__name__} under sdpa stays causal.*attn_implementation="eager"'):
        to_stock(model)
    assert model.config._attn_implementation == "soft_mask" and model.config.to_dict() == before
    assert [module.training for module in model.modules()] == modes
    stock = tiny(config_class, model_class, attention="sdpa")
    stock.config.is_causal = False
    with pytest.raises(UserError, match="stays causal"):
        save_stock(stock, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    to_stock(model, attn_implementation="eager")
    model.save_pretrained(tmp_path)
    stock = model_class.from_pretrained(tmp_path, attn_implementation="eager")
    torch.testing.assert_close(states(stock, tokens()), ours, rtol=1e-5, atol=1e-5)
    causal = tiny(config_class, model_class, alpha=0.0)
    ours = states(causal, tokens())
    to_stock(causal)
    torch.testing.assert_close(states(causal, tokens()), ours, rtol=1e-5, atol=1e-5)


def test_a_new_model_whose_layers_begin_as_the_identity_has_a_stock_form_too():
    model = tiny(alpha=1.0)
    for layer in model.layers:
        nn.init.zeros_(layer.self_attn.o_proj.weight)
    to_stock(model)
    assert model.config.is_causal is False


def test_where_there_is_no_sdpa_eager_is_taken_as_transformers_does_when_it_loads_and_named_where_sdpa_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(Gemma2Model, "_supports_sdpa", False)  # so it is in newer versions, not yet in 5.17
    config = Gemma2Config(**SIZES, query_pre_attn_scalar=8, attn_logit_softcapping=None, initializer_range=0.3)
    model = Gemma2Model._from_config(config, attn_implementation="soft_mask").eval()
    ours = states(model, tokens())
    with pytest.raises(UserError, match=r'Gemma2Model does not support .*to_stock\(model, attn_implementation="eager"\)'):
        to_stock(model, attn_implementation="sdpa")
    assert model.config._attn_implementation == "soft_mask"
    save_stock(model, tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert again.config._attn_implementation == model.config._attn_implementation == "eager"
    torch.testing.assert_close(states(again, tokens()), ours, rtol=1e-5, atol=1e-5)


def test_an_encoder_has_no_causal_stock_form():
    model = tiny(BertConfig, BertModel, alpha=0.0)
    with pytest.raises(UserError, match="a stock bert is never causal: set alpha to 1"):
        to_stock(model)
    set_soft_mask(model, alpha=1.0)
    ours = states(model, tokens())
    to_stock(model)
    torch.testing.assert_close(states(model, tokens()), ours, rtol=1e-5, atol=1e-5)


def with_adapter(how):
    """(a module that holds a soft-masked Llama at alpha 1 with a random LoRA, that Llama)"""
    llama = tiny(alpha=1.0)
    if how == "get_peft_model":
        return nn.ModuleDict({"model": get_peft_model(llama, LORA)}).eval(), llama
    llama.add_adapter(LORA)
    return nn.ModuleDict({"model": llama}).eval(), llama


@pytest.mark.parametrize("how", ["add_adapter", "get_peft_model"])
def test_adapters_are_merged_for_saved_alone_they_lose_is_causal(tmp_path, how):
    holder, _ = with_adapter(how)
    with torch.no_grad():
        ours, plain = holder["model"](tokens()).last_hidden_state, states(tiny(alpha=1.0), tokens())
    assert (ours - plain).abs().max() > 1e-2
    to_stock(holder)
    assert type(holder["model"]) is LlamaModel and all(weight.requires_grad for weight in holder.parameters())
    holder["model"].save_pretrained(tmp_path)
    assert not [path for path in tmp_path.iterdir() if "adapter" in path.name]
    again = LlamaModel.from_pretrained(tmp_path).eval()
    assert again.config.is_causal is False
    torch.testing.assert_close(states(again, tokens()), ours, rtol=1e-5, atol=1e-5)


def test_a_causal_model_keeps_its_adapters():
    holder, llama = with_adapter("add_adapter")
    set_soft_mask(holder, alpha=0.0)
    to_stock(holder)
    assert llama.active_adapters() == ["default"]


def test_adapters_that_cannot_be_merged_here_are_refused_and_nothing_is_changed():
    for adapter, message in (
        (LORA, "merge_and_unload"),
        (PromptTuningConfig(num_virtual_tokens=2, task_type="FEATURE_EXTRACTION"), "prompt"),
    ):
        model = get_peft_model(tiny(alpha=1.0), adapter)
        with pytest.raises(UserError, match=message):
            to_stock(model if adapter is LORA else nn.ModuleDict({"model": model}))
        assert model.base_model.config._attn_implementation == "soft_mask" and model.peft_config


def test_a_transformers_that_cannot_read_is_causal_false_stops_at_the_folder(tmp_path, monkeypatch):
    model = tiny(alpha=1.0)
    ours = states(model, tokens())
    save_stock(model, tmp_path)
    torch.testing.assert_close(states(AutoModel.from_pretrained(tmp_path).eval(), tokens()), ours, rtol=1e-5, atol=1e-5)
    whole = json.loads((tmp_path / "config.json").read_text())  # for readers that know nothing of versions
    assert whole["model_type"] == "llama" and whole["is_causal"] is False and whole["hidden_size"] == SIZES["hidden_size"]
    for old in ("4.57.6", "5.0.0", "5.1.0"):
        monkeypatch.setattr(configuration_utils, "__version__", old)
        for load in (AutoConfig, AutoModel):
            with pytest.raises(ValueError, match=r"model type `llama, bidirectional .* needs transformers >= 5.2.0`"):
                load.from_pretrained(tmp_path)
        with pytest.raises(AttributeError, match=r"llama, bidirectional .* needs transformers >= 5.2.0"):
            LlamaModel.from_pretrained(tmp_path)
    monkeypatch.setattr(configuration_utils, "__version__", "5.2.0")
    assert AutoConfig.from_pretrained(tmp_path).model_type == "llama"


def test_a_causal_folder_and_an_encoder_need_no_new_version(tmp_path):
    for name, model in (("causal", tiny(alpha=0.0)), ("encoder", tiny(BertConfig, BertModel, alpha=1.0))):
        save_stock(model, tmp_path / name)
        assert not list((tmp_path / name).glob("config.*.json"))


def test_a_stock_model_can_be_saved_twice(tmp_path):
    model = tiny(alpha=1.0)
    for _ in range(2):
        save_stock(model, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("config*.json")) == ["config.0.json", "config.5.2.0.json", "config.json"]


def test_a_folder_that_is_none_is_refused_and_the_model_stays_as_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("weights").write_text("precious")
    model = tiny(alpha=1.0)
    for folder, told in (
        ("weights", "save_stock: weights is a file: name a folder"),
        (tmp_path / "weights" / "below", "weights is a file: name a folder"),
        (None, "folder None is no path: name a folder"),
        ("", "folder '' is no path: name a folder"),
    ):
        with pytest.raises(UserError, match=told):
            save_stock(model, folder)
    assert model.config._attn_implementation == "soft_mask"
    assert [path.name for path in tmp_path.iterdir()] == ["weights"] and Path("weights").read_text() == "precious"
    save_stock(model, "new/folder")
    assert Path("new/folder/config.json").is_file()
