"""Pins: while a text fits into a window the soft mask is that of full attention, in every windowed family and with every layer's own
positions: alpha = 0 is the stock causal model, the stock model of alpha = 1 keeps layer types and vectors. A longer text is refused."""

import copy

import pytest
import torch
import transformers
from transformers import AutoModel, Gemma3TextConfig, Llama4TextConfig, Llama4TextModel

from conan_lib.attention import save_stock, set_soft_mask
from conan_lib.errors import UserError
from tests.tiny_models import SIZES, states, tokens

WINDOW = 8
BOTH = {"layer_types": ["sliding_attention", "full_attention"]}
FAMILIES = {
    "MistralConfig": {},
    "Phi3Config": {},
    "Starcoder2Config": {},
    "MixtralConfig": {"num_local_experts": 2},
    "Qwen2Config": {"use_sliding_window": True, "max_window_layers": 1},
    "Qwen3Config": {"use_sliding_window": True, "max_window_layers": 1},
    "Gemma2Config": {**BOTH, "attn_logit_softcapping": None},
    "Gemma3TextConfig": BOTH,
    "Olmo3Config": BOTH,
    "MinistralConfig": BOTH,
    "Cohere2Config": BOTH,
    "Exaone4Config": BOTH,
    "AfmoeConfig": BOTH,
    "CwmConfig": {**BOTH, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    "ModernBertDecoderConfig": {**BOTH, "local_attention": 2 * WINDOW, "cls_token_id": 1, "sep_token_id": 2},
}


def pair(family, **changes):
    """(the stock causal model, the same weights under the soft mask)"""
    torch.manual_seed(0)
    own = {"sliding_window": WINDOW, "max_position_embeddings": 64, "initializer_range": 0.3}
    config = getattr(transformers, family)(**SIZES | own | FAMILIES[family] | changes)
    stock = AutoModel.from_config(copy.deepcopy(config)).eval()
    model = AutoModel.from_config(config, attn_implementation="soft_mask").eval()
    model.load_state_dict(stock.state_dict())
    return stock, model


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_within_the_window_sees_full_attention_and_a_longer_one_is_refused(family, tmp_path):
    stock, model = pair(family)
    ids, mask = tokens(length=WINDOW + 1), torch.ones(2, WINDOW + 1, dtype=torch.long)
    mask[0, :3], mask[1, 0] = 0, 0  # rows longer than the window, texts that fit
    real = mask[..., None]
    set_soft_mask(model, alpha=0.0)
    torch.testing.assert_close(states(model, ids, mask) * real, states(stock, ids, mask) * real, rtol=1e-4, atol=1e-5)
    set_soft_mask(model, alpha=1.0)
    ours = states(model, ids, mask)
    assert ((ours - states(stock, ids, mask)) * real).abs().max() > 1e-2
    with pytest.raises(UserError, match=rf"has windows of {WINDOW} tokens, and a text here is longer: cut texts to {WINDOW} tokens"):
        states(model, ids)
    save_stock(model, tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert getattr(again.config, "layer_types", None) == getattr(stock.config, "layer_types", None)
    assert again.config.sliding_window == WINDOW
    torch.testing.assert_close(states(again, ids, mask) * real, ours * real, rtol=1e-4, atol=1e-5)


def test_layers_that_are_called_full_lose_their_rope_base_which_is_why_types_are_kept():
    _, model = pair("Gemma3TextConfig")
    _, widened = pair("Gemma3TextConfig", layer_types=["full_attention"] * 2)
    widened.load_state_dict(model.state_dict())
    assert Gemma3TextConfig().rope_parameters["sliding_attention"] != Gemma3TextConfig().rope_parameters["full_attention"]
    assert (states(model, tokens(length=WINDOW)) - states(widened, tokens(length=WINDOW))).abs().max() > 1e-3


@pytest.mark.parametrize("backend", ["dense", "halves"])
def test_packed_texts_that_each_fit_are_as_if_alone(backend):
    _, model = pair("Gemma3TextConfig")
    set_soft_mask(model, alpha=0.3, backend=backend)
    ids = tokens(batch=1, length=12)
    positions = torch.tensor([[*range(5), *range(7)]])
    packed = states(model, ids, position_ids=positions, use_cache=False)
    for part in (slice(0, 5), slice(5, 12)):
        torch.testing.assert_close(packed[:, part], states(model, ids[:, part]), rtol=1e-4, atol=1e-5)


def test_a_window_of_one_token_and_chunks_take_rows_that_fit():
    _, model = pair("MistralConfig", sliding_window=1)
    states(model, tokens(length=1))
    with pytest.raises(UserError, match="windows of 1 tokens"):
        states(model, tokens(length=2))
    chunks = {"attention_chunk_size": WINDOW, "num_local_experts": 2, "no_rope_layers": [1, 0], "intermediate_size_mlp": 48}
    config = Llama4TextConfig(**SIZES, **chunks, moe_layers=[])
    torch.manual_seed(0)
    stock = Llama4TextModel._from_config(copy.deepcopy(config), attn_implementation="sdpa").eval()
    model = Llama4TextModel._from_config(config, attn_implementation="soft_mask").eval()
    model.load_state_dict(stock.state_dict())
    set_soft_mask(model, alpha=0.0)
    torch.testing.assert_close(states(model, tokens(length=WINDOW)), states(stock, tokens(length=WINDOW)), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="windows of 8 tokens"):
        states(model, tokens(length=WINDOW + 1))


def test_generation_with_windows_at_alpha_0_is_that_of_the_stock_model():
    torch.manual_seed(0)
    config = transformers.MistralConfig(**SIZES, sliding_window=WINDOW, initializer_range=0.3)
    stock = transformers.MistralForCausalLM._from_config(copy.deepcopy(config), attn_implementation="sdpa").eval()
    config.soft_mask_alpha = 0.0
    model = transformers.MistralForCausalLM._from_config(config, attn_implementation="soft_mask").eval()
    model.load_state_dict(stock.state_dict())
    ids, how = tokens(length=6), {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}  # past the window
    wanted = stock.generate(ids, attention_mask=torch.ones_like(ids), **how)
    assert torch.equal(model.generate(ids, attention_mask=torch.ones_like(ids), **how), wanted)
