"""Pins: a stock Llama and Qwen3 take attn_implementation="soft_mask" unpatched; what leaks from the future at which alpha; alpha = 1 is the
stock bidirectional model; batch invariance; packed documents; gradient checkpointing; decoding; refusals in one line."""

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2Model,
    Gemma3TextConfig,
    Gemma3TextModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MistralConfig,
    MistralModel,
    Qwen3Config,
    Qwen3Model,
)

from conan_lib.attention import set_soft_mask, to_stock
from conan_lib.errors import UserError

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "attention_dropout": 0.0,
}  # fmt: skip
BACKBONES = [(LlamaConfig, LlamaModel), (Qwen3Config, Qwen3Model)]


def tiny(config_class=LlamaConfig, model_class=LlamaModel, attention="soft_mask", layers=None, **soft_mask):
    torch.manual_seed(0)
    kinds = {"layer_types": layers} if layers else {}
    config = config_class(**SIZES, **kinds, **{f"soft_mask_{name}": value for name, value in soft_mask.items()})
    return model_class._from_config(config, attn_implementation=attention).eval()


def tokens(batch=2, length=9):
    return torch.randint(3, 64, (batch, length), generator=torch.Generator().manual_seed(1))


def states(model, ids, mask=None, **kwargs):
    with torch.no_grad():
        return model(ids, attention_mask=mask, **kwargs).last_hidden_state


@pytest.mark.equation("soft_mask")
@pytest.mark.parametrize(("config_class", "model_class"), BACKBONES)
@pytest.mark.parametrize("reading", ["weight", "logit"])
def test_leak_probe(config_class, model_class, reading):
    model = tiny(config_class, model_class, reading=reading)
    ids = tokens()
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 61 + 3
    moved = {a: (states(model, ids, soft_mask_alpha=a) - states(model, changed, soft_mask_alpha=a)).abs()[:, :-1] for a in (0.0, 0.05, 1.0)}
    assert all(moved[a][:, 0].max() > 1e-4 for a in (0.05, 1.0))
    if reading == "weight":
        assert moved[0.0].max() == 0
    else:  # the finding: as printed, even alpha = 0 lets the future in
        assert moved[0.0][:, 0].max() > 1e-4


@pytest.mark.equation("soft_mask_weight")
@pytest.mark.parametrize(("config_class", "model_class"), BACKBONES)
@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_endpoints_equal_the_stock_model(config_class, model_class, side):
    ids = tokens()
    mask = torch.ones_like(ids)
    if side != "none":
        mask[0, slice(0, 3) if side == "left" else slice(6, None)] = 0
    stock = tiny(config_class, model_class, attention="sdpa")
    model = tiny(config_class, model_class)
    model.load_state_dict(stock.state_dict())
    real = mask[..., None]
    torch.testing.assert_close(states(model, ids, mask, soft_mask_alpha=0.0) * real, states(stock, ids, mask) * real, rtol=1e-5, atol=1e-5)
    stock.config.is_causal = False
    torch.testing.assert_close(states(model, ids, mask) * real, states(stock, ids, mask) * real, rtol=1e-5, atol=1e-5)


def test_config_and_keyword_say_the_same_and_the_config_survives_saving(tmp_path):
    model = tiny(alpha=0.3, reading="logit", ratio="i/l")
    by_config = states(model, tokens())
    model.save_pretrained(tmp_path)
    again = LlamaModel.from_pretrained(tmp_path, attn_implementation="soft_mask")
    assert (again.config.soft_mask_alpha, again.config.soft_mask_reading, again.config.soft_mask_ratio) == (0.3, "logit", "i/l")
    torch.testing.assert_close(states(again, tokens()), by_config)
    set_soft_mask(model, alpha=0.8)
    assert (states(model, tokens()) - by_config).abs().max() > 1e-4
    torch.testing.assert_close(states(model, tokens(), soft_mask_alpha=0.3), by_config)


@pytest.mark.parametrize("reading", ["weight", "logit"])
def test_a_text_has_the_same_vectors_alone_and_padded_left_or_right(reading):
    model = tiny(alpha=0.4, reading=reading)
    ids = tokens(1, 6)
    alone = states(model, ids)
    pad = torch.zeros(1, 4, dtype=torch.long)
    other = tokens(1, 10)
    on, off = torch.ones(1, 6, dtype=torch.long), pad
    full = torch.ones(1, 10, dtype=torch.long)
    right = states(model, torch.cat([torch.cat([ids, pad], 1), other]), torch.cat([torch.cat([on, off], 1), full]))[:1, :6]
    # with left padding transformers counts RoPE positions from the padding; rotary attention sees only differences
    left = states(model, torch.cat([torch.cat([pad, ids], 1), other]), torch.cat([torch.cat([off, on], 1), full]))[:1, 4:]
    torch.testing.assert_close(right, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(left, alone, rtol=1e-4, atol=1e-5)


def test_packed_documents_do_not_see_each_other():
    model = tiny(alpha=0.4)
    ids = tokens(1, 10)
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5]])
    with torch.no_grad():
        packed = model(ids, position_ids=positions, use_cache=False).last_hidden_state
    torch.testing.assert_close(packed[:, :4], states(model, ids[:, :4]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(packed[:, 4:], states(model, ids[:, 4:]), rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients():
    ids = tokens()
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    grads = []
    for checkpointing in (False, True):
        model = tiny(alpha=0.4).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        (model(ids, attention_mask=mask, use_cache=False).last_hidden_state * mask[..., None]).square().sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for plain, checkpointed in zip(*grads, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def test_the_mask_is_built_once_for_all_layers(monkeypatch):
    from conan_lib.attention import softmask

    calls = []
    original = softmask.SoftMask._terms
    monkeypatch.setattr(softmask.SoftMask, "_terms", lambda self, *a: calls.append(a) or original(self, *a))
    states(tiny(alpha=0.4), tokens())
    assert len(calls) == 1


def test_generation_at_alpha_0_is_that_of_the_stock_model():
    stock, model = tiny(model_class=LlamaForCausalLM, attention="sdpa"), tiny(model_class=LlamaForCausalLM, alpha=0.0)
    model.load_state_dict(stock.state_dict())
    arguments = {"attention_mask": torch.ones(2, 9, dtype=torch.long), "max_new_tokens": 4, "do_sample": False}
    assert torch.equal(model.generate(tokens(), **arguments), stock.generate(tokens(), **arguments))
    set_soft_mask(model, alpha=0.5)
    with pytest.raises(UserError, match="decoding"):
        model.generate(tokens(), **arguments)


@pytest.mark.parametrize(("alpha", "causal"), [(1.0, False), (0.0, True)])
def test_to_stock_keeps_the_vectors_and_names_nothing_of_ours(tmp_path, alpha, causal):
    model = tiny(alpha=alpha)
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
        with pytest.raises(UserError, match="neither causal nor bidirectional"):
            to_stock(tiny(**between))


def test_is_causal_in_the_config_does_not_touch_the_soft_mask():
    model = tiny(alpha=0.3)
    before = states(model, tokens())
    model.config.is_causal = False
    torch.testing.assert_close(states(model, tokens()), before)


def test_gemma_without_its_local_layers_is_covered():
    stock, model = (
        tiny(Gemma3TextConfig, Gemma3TextModel, attention, layers=["full_attention"] * 2) for attention in ("sdpa", "soft_mask")
    )
    torch.testing.assert_close(states(model, tokens(), soft_mask_alpha=0.0), states(stock, tokens()), rtol=1e-4, atol=1e-5)


def test_refusals():
    with pytest.raises(UserError, match="soft_mask_reading"):
        states(tiny(reading="weights"), tokens())
    with pytest.raises(UserError, match="is outside 0"):
        states(tiny(alpha=1.5), tokens())
    with pytest.raises(UserError, match="is outside 0"):
        states(tiny(), tokens(), soft_mask_alpha=-0.1)
    with pytest.raises(UserError, match="4-D"):
        states(tiny(), tokens(), torch.ones(2, 1, 9, 9, dtype=torch.bool))
    with pytest.raises(UserError, match="no model inside LlamaModel uses it"):
        set_soft_mask(tiny(attention="sdpa"), alpha=0.5)
    sliding = MistralModel._from_config(MistralConfig(**SIZES, sliding_window=4), attn_implementation="soft_mask")
    with pytest.raises(UserError, match="mistral has sliding-window"):
        states(sliding, tokens())
    local = Gemma3TextModel._from_config(Gemma3TextConfig(**SIZES, layer_types=["sliding_attention"] * 2), attn_implementation="soft_mask")
    with pytest.raises(UserError, match="gemma3_text has sliding-window"):
        states(local, tokens())
    capped = Gemma2Config(**SIZES, query_pre_attn_scalar=8, layer_types=["full_attention"] * 2)
    with pytest.raises(UserError, match="softcap"):
        states(Gemma2Model._from_config(capped, attn_implementation="soft_mask"), tokens())
