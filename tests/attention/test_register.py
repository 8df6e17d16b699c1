"""Pins: a stock Llama and Qwen3 take attn_implementation="soft_mask" unpatched; what leaks from the future at which alpha; alpha = 1 is the
stock bidirectional model; batch invariance and packed documents, in every backend; gradient checkpointing and torch.compile; decoding;
a child process knows the name. What is refused: test_refusals.py; windows: test_windows.py; the way out: test_stock.py."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import GPT2Config, GPT2Model, LlamaForCausalLM, LlamaModel

from conan_lib.attention import set_soft_mask
from conan_lib.errors import UserError
from tests.tiny_models import BACKBONES, states, tiny, tokens


@pytest.mark.equation("soft_mask")
@pytest.mark.parametrize(("config_class", "model_class"), BACKBONES)
@pytest.mark.parametrize("reading", ["weight", "logit"])
@pytest.mark.parametrize("backend", ["dense", "halves", "reference"])
def test_leak_probe(config_class, model_class, reading, backend):
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


def test_is_causal_in_the_config_does_not_touch_the_soft_mask():
    model = tiny(alpha=0.3)
    before = states(model, tokens())
    model.config.is_causal = False
    torch.testing.assert_close(states(model, tokens()), before)


def test_a_process_that_is_handed_a_model_knows_the_name(tmp_path):
    model = tiny(alpha=0.3)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps((model, tokens())))
    code = "import pickle, sys, torch; m, t = pickle.load(open(sys.argv[1], 'rb')); torch.save(m(t).last_hidden_state, sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, tmp_path / "model.pickle", tmp_path / "states.pt"], check=True, timeout=120)
    torch.testing.assert_close(torch.load(tmp_path / "states.pt"), states(model, tokens()))
    assert "soft_mask" not in repr(pickle.dumps(tiny(attention="sdpa").config)) and copy.deepcopy(model.config) == model.config


def test_importing_the_attention_imports_no_stage_no_parameters_and_no_trainer():
    code = "import sys, conan_lib.attention; print(*sorted(sys.modules))"
    names = subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True).stdout.split()
    ours = {name.split(".")[1] for name in names if name.startswith("conan_lib.")}
    assert ours == {"attention", "errors"}
    assert not {"sentence_transformers", "datasets", "pydantic", "peft", "mteb"} & set(names)
