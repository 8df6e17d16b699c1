"""What cannot carry the soft mask is refused in one line that says what helps, and nothing is changed: packing that transformers does not
see, terms of other attentions, cross-attention, layers and models that mix tokens by other means, settings that are none."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    BloomConfig,
    BloomModel,
    CodeGenConfig,
    CodeGenModel,
    CTRLConfig,
    CTRLModel,
    DistilBertConfig,
    DistilBertModel,
    DogeConfig,
    DogeModel,
    EsmConfig,
    EsmModel,
    FalconH1Config,
    FalconH1Model,
    Gemma2Config,
    Gemma2Model,
    GPTBigCodeConfig,
    GPTBigCodeModel,
    GptOssConfig,
    GptOssModel,
    Lfm2Config,
    Lfm2Model,
    LlamaConfig,
    MambaConfig,
    MambaModel,
    MistralConfig,
    MistralModel,
    MptConfig,
    MptModel,
    PersimmonConfig,
    PersimmonModel,
    Qwen3Config,
    Qwen3Model,
    Qwen3VLTextConfig,
    Qwen3VLTextModel,
    RecurrentGemmaConfig,
    RecurrentGemmaModel,
    RwkvConfig,
    RwkvModel,
    T5Config,
    T5EncoderModel,
    XGLMConfig,
    XGLMModel,
)

from conan_lib.attention import save_stock, set_soft_mask, to_stock
from conan_lib.errors import UserError
from tests.tiny_models import SIZES, states, tiny, tokens


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
    with pytest.raises(UserError, match="mistral has windows of 4 tokens"):
        states(sliding, tokens())
    for first in (0, 1):  # all layers, or those from the second on
        window = Qwen3Config(**SIZES, use_sliding_window=True, sliding_window=4, max_window_layers=first)
        with pytest.raises(UserError, match="qwen3 has windows of 4 tokens"):
            states(Qwen3Model._from_config(window, attn_implementation="soft_mask"), tokens())
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


RARE = [
    (GPTBigCodeConfig(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32), GPTBigCodeModel),
    (PersimmonConfig(**SIZES), PersimmonModel),
    (CTRLConfig(vocab_size=64, n_embd=32, dff=48, n_layer=2, n_head=4, n_positions=32), CTRLModel),
    (DistilBertConfig(vocab_size=64, dim=32, hidden_dim=48, n_layers=2, n_heads=4), DistilBertModel),
    (EsmConfig(**SIZES | {"mask_token_id": 3, "max_position_embeddings": 32, "position_embedding_type": "absolute"}), EsmModel),
    (BertConfig(**SIZES), BertModel),
    (Qwen3VLTextConfig(**SIZES, rope_parameters={"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}), Qwen3VLTextModel),
]


@pytest.mark.parametrize(("config", "model_class"), RARE, ids=[row[1].__name__ for row in RARE])
def test_packing_that_would_leak_is_refused_where_positions_never_reach_the_attention(config, model_class):
    model = model_class._from_config(config, attn_implementation="soft_mask").eval()
    ids, positions = tokens(length=8), torch.arange(8)[None] % 4
    with pytest.raises(UserError, match="position_ids start again inside a row"):
        states(model, ids, torch.ones_like(ids), position_ids=positions.expand(2, -1))
    states(model, ids, torch.ones_like(ids), position_ids=torch.arange(8).expand(2, -1))


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


@pytest.mark.parametrize(("given", "told"), [(None, "None"), ("Qwen/Qwen3-0.6B", "'Qwen/Qwen3-0.6B'"), ([], "list")])
def test_a_name_is_no_model(tmp_path, given, told):
    for attempt in (lambda: set_soft_mask(given, alpha=0.5), lambda: to_stock(given), lambda: save_stock(given, tmp_path / "x")):
        with pytest.raises(UserError, match=f"soft_mask: {told} is no model: give the loaded model, not its name"):
            attempt()
