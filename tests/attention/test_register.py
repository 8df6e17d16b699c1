"""Pins: a stock Llama and Qwen3 take attn_implementation="soft_mask" unpatched; what leaks from the future at which alpha; alpha = 1 is the
stock bidirectional model; batch invariance and packed documents, in every backend; gradient checkpointing and torch.compile; decoding;
refusals in one line, of whatever the mask does not cover too: packing that transformers does not see, terms of other attentions,
cross-attention, layers and models that mix tokens by other means, an encoder's causal end."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn.attention.flex_attention import flex_attention
from transformers import (
    BertConfig,
    BertModel,
    BloomConfig,
    BloomModel,
    CodeGenConfig,
    CodeGenModel,
    DogeConfig,
    DogeModel,
    FalconH1Config,
    FalconH1Model,
    Gemma2Config,
    Gemma2Model,
    Gemma3TextConfig,
    Gemma3TextModel,
    GPT2Config,
    GPT2Model,
    GptOssConfig,
    GptOssModel,
    Lfm2Config,
    Lfm2Model,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MambaConfig,
    MambaModel,
    MistralConfig,
    MistralModel,
    MptConfig,
    MptModel,
    NemotronConfig,
    NemotronModel,
    Qwen3Config,
    Qwen3Model,
    RecurrentGemmaConfig,
    RecurrentGemmaModel,
    RwkvConfig,
    RwkvModel,
    StableLmConfig,
    StableLmModel,
    T5Config,
    T5EncoderModel,
    XGLMConfig,
    XGLMModel,
)

from conan_lib.attention import set_soft_mask, to_stock
from conan_lib.errors import UserError

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "attention_dropout": 0.0,
}  # fmt: skip
BACKBONES = [(LlamaConfig, LlamaModel), (Qwen3Config, Qwen3Model)]


def tiny(config_class=LlamaConfig, model_class=LlamaModel, attention="soft_mask", layers=None, dropout=0.0, **soft_mask):
    torch.manual_seed(0)
    kinds = {"layer_types": layers} if layers else {}
    config = config_class(
        **SIZES | {"attention_dropout": dropout}, **kinds, **{f"soft_mask_{name}": value for name, value in soft_mask.items()}
    )
    return model_class._from_config(config, attn_implementation=attention).eval()


def tokens(batch=2, length=9):
    return torch.randint(3, 64, (batch, length), generator=torch.Generator().manual_seed(1))


def states(model, ids, mask=None, **kwargs):
    with torch.no_grad():
        return model(ids, attention_mask=mask, **kwargs).last_hidden_state


@pytest.mark.equation("soft_mask")
@pytest.mark.parametrize(("config_class", "model_class"), BACKBONES)
@pytest.mark.parametrize("reading", ["weight", "logit"])
@pytest.mark.parametrize("backend", ["dense", "halves", "flex", "reference"])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_leak_probe(config_class, model_class, reading, backend, monkeypatch):
    monkeypatch.setattr("conan_lib.attention.flex._compiled", lambda: flex_attention)  # compiling would take most of a minute
    model = tiny(config_class, model_class, reading=reading, backend=backend)
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


@pytest.mark.parametrize(("config_class", "model_class"), BACKBONES)
@pytest.mark.parametrize("reading", ["weight", "logit"])
@pytest.mark.parametrize("backend", ["dense", "halves"])
def test_a_text_has_the_same_vectors_alone_padded_left_or_right_and_packed(config_class, model_class, reading, backend):
    model = tiny(config_class, model_class, alpha=0.4, reading=reading, backend=backend)
    ids, other = tokens(1, 6), tokens(1, 10)
    alone = states(model, ids)
    pad = torch.zeros(1, 4, dtype=torch.long)
    on, full = torch.ones(1, 6, dtype=torch.long), torch.ones(1, 10, dtype=torch.long)
    right = states(model, torch.cat([torch.cat([ids, pad], 1), other]), torch.cat([torch.cat([on, pad], 1), full]))[:1, :6]
    # with left padding transformers counts RoPE positions from the padding; rotary attention sees only differences
    left = states(model, torch.cat([torch.cat([pad, ids], 1), other]), torch.cat([torch.cat([pad, on], 1), full]))[:1, 4:]
    positions = torch.tensor([[*range(10), *range(6)]])
    packed = states(model, torch.cat([other, ids], 1), position_ids=positions, use_cache=False)
    for found in (right, left, packed[:, 10:]):
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(packed[:, :10], states(model, other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("config_class", "model_class"), [*BACKBONES, (GPT2Config, GPT2Model)])
def test_packing_that_the_mask_does_not_follow_is_refused(config_class, model_class):
    model = tiny(config_class, model_class, alpha=0.4)
    ids, ones = tokens(1, 9), torch.ones(1, 9, dtype=torch.long)
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    states(model, ids, position_ids=positions, use_cache=False)
    for mask, cache in ((None, True), (ones, False)):
        with pytest.raises(UserError, match=r"position_ids start again inside a row.*use_cache=False and no attention_mask"):
            states(model, ids, mask, position_ids=positions, use_cache=cache)
    padded = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1]])  # positions on padding mean nothing
    states(model, ids, padded, position_ids=positions)


def gradients(model):
    """Of a sum over the states of a padded batch, for every parameter."""
    ids = tokens()
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    model.zero_grad()
    out = model(ids, attention_mask=mask, use_cache=False).last_hidden_state
    (out * mask[..., None]).square().mean().backward()
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("backend", ["dense", "halves"])
def test_gradient_checkpointing_gives_the_same_gradients(backend):
    model = tiny(alpha=0.4, backend=backend).train()
    plain = gradients(model)
    model.gradient_checkpointing_enable()
    for found, wanted in zip(gradients(model), plain, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["dense", "halves"])
def test_a_compiled_model_has_the_same_gradients_and_a_new_alpha_compiles_nothing(backend):
    torch._dynamo.reset()
    model = tiny(alpha=0.4, backend=backend).train()
    compiled, graphs = torch.compile(model), []
    for alpha in (0.4, 0.1):
        set_soft_mask(model, alpha=alpha)
        for found, wanted in zip(gradients(compiled), gradients(model), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] > 0


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
    to_stock(model, attn_implementation="eager")
    model.save_pretrained(tmp_path)
    stock = model_class.from_pretrained(tmp_path, attn_implementation="eager")
    torch.testing.assert_close(states(stock, tokens()), ours, rtol=1e-5, atol=1e-5)
    causal = tiny(config_class, model_class, alpha=0.0)
    ours = states(causal, tokens())
    to_stock(causal)
    torch.testing.assert_close(states(causal, tokens()), ours, rtol=1e-5, atol=1e-5)


def test_an_encoder_has_no_causal_stock_form():
    model = tiny(BertConfig, BertModel, alpha=0.0)
    with pytest.raises(UserError, match="a stock bert is never causal: set alpha to 1"):
        to_stock(model)
    set_soft_mask(model, alpha=1.0)
    ours = states(model, tokens())
    to_stock(model)
    torch.testing.assert_close(states(model, tokens()), ours, rtol=1e-5, atol=1e-5)


def test_is_causal_in_the_config_does_not_touch_the_soft_mask():
    model = tiny(alpha=0.3)
    before = states(model, tokens())
    model.config.is_causal = False
    torch.testing.assert_close(states(model, tokens()), before)


@pytest.mark.parametrize("backend", ["dense", "halves"])
def test_gemma_without_its_local_layers_is_covered(backend):
    stock, model = (
        tiny(Gemma3TextConfig, Gemma3TextModel, attention, layers=["full_attention"] * 2) for attention in ("sdpa", "soft_mask")
    )
    set_soft_mask(model, backend=backend)
    torch.testing.assert_close(states(model, tokens(), soft_mask_alpha=0.0), states(stock, tokens()), rtol=1e-4, atol=1e-5)
    assert (states(model, tokens(), soft_mask_alpha=0.3) - states(stock, tokens())).abs().max() > 1e-4


def test_refusals():
    with pytest.raises(UserError, match="soft_mask_reading"):
        states(tiny(reading="weights"), tokens())
    with pytest.raises(UserError, match="soft_mask_backend: 'fast' is not one of auto, dense"):
        states(tiny(backend="fast"), tokens())
    for alpha in (1.5, "much"):
        with pytest.raises(UserError, match="is outside 0"):
            states(tiny(alpha=alpha), tokens())
    with pytest.raises(UserError, match="attention dropout"):
        tiny(LlamaConfig, backend="halves", alpha=0.3, dropout=0.1).train()(tokens())
    with pytest.raises(UserError, match="is outside 0"):
        states(tiny(), tokens(), soft_mask_alpha=-0.1)
    with pytest.raises(UserError, match="4-D"):
        states(tiny(), tokens(), torch.ones(2, 1, 9, 9, dtype=torch.bool))
    with pytest.raises(UserError, match="no model inside LlamaModel uses it"):
        set_soft_mask(tiny(attention="sdpa"), alpha=0.5)
    sliding = MistralModel._from_config(MistralConfig(**SIZES, sliding_window=4), attn_implementation="soft_mask")
    with pytest.raises(UserError, match="mistral has sliding-window"):
        states(sliding, tokens())
    for first in (0, 1):  # all layers, or those from the second on
        window = Qwen3Config(**SIZES, use_sliding_window=True, sliding_window=4, max_window_layers=first)
        with pytest.raises(UserError, match="qwen3 has sliding-window"):
            states(Qwen3Model._from_config(window, attn_implementation="soft_mask"), tokens())
    local = Gemma3TextModel._from_config(Gemma3TextConfig(**SIZES, layer_types=["sliding_attention"] * 2), attn_implementation="soft_mask")
    with pytest.raises(UserError, match="gemma3_text has sliding-window"):
        states(local, tokens())
    capped = Gemma2Config(**SIZES, query_pre_attn_scalar=8, layer_types=["full_attention"] * 2)
    with pytest.raises(UserError, match="softcap"):
        states(Gemma2Model._from_config(capped, attn_implementation="soft_mask"), tokens())


def test_terms_of_other_attentions_are_refused_by_name():
    few = {"num_layers": 1, "d_model": 32, "d_ff": 32, "d_kv": 8, "num_heads": 4, "vocab_size": 64}
    with pytest.raises(UserError, match="t5 uses position_bias"):
        states(T5EncoderModel._from_config(T5Config(**few), attn_implementation="soft_mask").eval(), tokens())
    sinks = GptOssConfig(**SIZES, layer_types=["full_attention"] * 2, num_local_experts=2, num_experts_per_tok=1)
    with pytest.raises(UserError, match="gpt_oss uses s_aux"):
        states(GptOssModel._from_config(sinks, attn_implementation="soft_mask").eval(), tokens())
    crossed = BertModel._from_config(BertConfig(**SIZES, is_decoder=True, add_cross_attention=True), attn_implementation="soft_mask")
    with pytest.raises(UserError, match="bert has cross-attention"):
        states(crossed, tokens(), encoder_hidden_states=torch.zeros(2, 9, 32))


@pytest.mark.parametrize(
    ("config", "model_class", "message"),
    [
        (Lfm2Config(**SIZES, layer_types=["conv", "full_attention"]), Lfm2Model, "lfm2 has (conv|linear_attention) layers"),
        (FalconH1Config(**SIZES, mamba_n_heads=4, mamba_d_head=8, mamba_d_ssm=32), FalconH1Model, "falcon_h1 has hybrid layers"),
        (
            RecurrentGemmaConfig(**SIZES | {"num_hidden_layers": 3}, lru_width=32),
            RecurrentGemmaModel,
            "recurrent_gemma has (linear_attention|recurrent) layers",
        ),
    ],
)
def test_layers_that_mix_tokens_without_attention_are_refused(config, model_class, message):
    model = model_class._from_config(config, attn_implementation="soft_mask").eval()
    for attempt in (lambda: states(model, tokens()), lambda: set_soft_mask(model, alpha=0.3), lambda: to_stock(model)):
        with pytest.raises(UserError, match=message + ", which it does not cover"):
            attempt()


@pytest.mark.parametrize(
    ("config", "model_class"),
    [
        (MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4), MambaModel),
        (RwkvConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2), RwkvModel),
        (CodeGenConfig(vocab_size=64, n_embd=32, n_layer=1, n_head=4, rotary_dim=8), CodeGenModel),
    ],
)
def test_models_that_never_ask_for_an_attention_are_refused(config, model_class):
    model = model_class._from_config(config, attn_implementation="soft_mask")
    for attempt in (lambda: set_soft_mask(model, alpha=0.3), lambda: to_stock(model)):
        with pytest.raises(UserError, match=f"{model_class.__name__} does not use transformers' attention interface"):
            attempt()


MASK_READERS = [
    (CodeGenConfig(vocab_size=64, n_embd=32, n_layer=1, n_head=4, rotary_dim=8), CodeGenModel),
    (BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=4), BloomModel),
    (MptConfig(vocab_size=64, d_model=32, n_layers=1, n_heads=4), MptModel),
    (XGLMConfig(vocab_size=64, d_model=32, ffn_dim=32, num_layers=1, attention_heads=4), XGLMModel),
    (DogeConfig(**{name: value for name, value in SIZES.items() if name != "head_dim"}), DogeModel),
]


@pytest.mark.parametrize(("config", "model_class"), MASK_READERS)
def test_models_that_compute_with_their_mask_are_refused_in_one_line(config, model_class):
    model = model_class._from_config(config, attn_implementation="soft_mask").eval()
    with pytest.raises(UserError, match="this model computes with its attention mask itself"):
        states(model, tokens())


def test_a_sliding_window_that_can_be_left_out_is(tmp_path):
    MistralModel._from_config(MistralConfig(**SIZES, sliding_window=4)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"mistral has sliding-window layers.*from_pretrained\(\.\.\., sliding_window=None\)"):
        states(MistralModel.from_pretrained(tmp_path, attn_implementation="soft_mask"), tokens())
    states(MistralModel.from_pretrained(tmp_path, attn_implementation="soft_mask", sliding_window=None), tokens())


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("shape", [(2, 5), (2, 12), (9,), (1, 9)])
def test_a_mask_of_another_shape_is_refused(cache, shape):
    with pytest.raises(UserError, match=rf"attention_mask has shape \({shape[0]},.*the batch \(2, 9\)"):
        states(tiny(), tokens(), torch.ones(shape, dtype=torch.long), use_cache=cache)


@pytest.mark.parametrize("number", [np.float32(0.3), np.float64(0.3), np.array(0.3), torch.tensor(0.3), Fraction(3, 10)])
def test_any_real_scalar_is_an_alpha_in_a_call_and_in_the_config(tmp_path, number):
    model = tiny(alpha=0.3)
    wanted = states(model, tokens())
    torch.testing.assert_close(states(model, tokens(), soft_mask_alpha=number), wanted)
    set_soft_mask(model, alpha=number)
    assert type(model.config.soft_mask_alpha) is float
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(states(model, tokens()), wanted)


@pytest.mark.parametrize("wrong", ["0.3", torch.tensor([0.3, 0.4]), np.array([0.3, 0.4]), [0.3], float("nan"), np.float32(1.5), -0.1, 0.3j])
def test_what_is_no_number_of_0_to_1_is_refused_alike_in_a_call_and_in_the_config(wrong):
    model = tiny(alpha=0.3)
    for attempt in (lambda: states(model, tokens(), soft_mask_alpha=wrong), lambda: set_soft_mask(model, alpha=wrong)):
        with pytest.raises(UserError, match=r"soft_mask_alpha: .* is outside 0..1: give one number"):
            attempt()
    assert model.config.soft_mask_alpha == 0.3


def test_a_setting_that_is_refused_changes_nothing():
    model = tiny(alpha=0.3)
    for wrong, message in (
        ({"alpha": 3}, "is outside 0"),
        ({"alfa": 0.5}, "'?alfa'? is not one of alpha"),
        ({"schedule": "linear"}, "Callback"),
    ):
        with pytest.raises(UserError, match=message):
            set_soft_mask(model, reading="logit", **wrong)
    assert (model.config.soft_mask_alpha, getattr(model.config, "soft_mask_reading", "weight")) == (0.3, "weight")
