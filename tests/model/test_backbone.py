"""The backbone has the published size to the unit, its training loss is transformers' own, and the exported encoder is a stock
bidirectional Llama that gives the same vectors (tests/run/test_export.py loads it without our code)."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from small_corpus import documents
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, StableLmConfig, StableLmModel

from conan_lib.errors import UserError
from conan_lib.model import fused_loss
from conan_lib.model.backbone import (
    build,
    configuration,
    count_parameters,
    cross_entropy_sum,
    describe,
    export,
    flops_per_token,
    load,
    parameter_audit,
    save,
    to_sentence_transformer,
)
from conan_lib.model.tokenizer import train_bpe
from conan_lib.params.model import BackboneParams, TokenizerParams

SMALL = BackboneParams(
    layers=2, hidden_size=16, heads=4, kv_heads=2, ffn_size=24, context_length=64, initializer_range=0.3, residual_init="normal"
)
TEXTS = ["the river runs", "der alte Bäcker öffnet früh seine Tür", "山高水长", "stone"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model with its tokenizer, as a training stage leaves it."""
    folder = tmp_path_factory.mktemp("backbone") / "model"
    tokenizer = train_bpe([document["text"] for document in documents()], TokenizerParams(vocab_size=320))
    save(build(SMALL, 320, seed=0), tokenizer, folder)
    return folder


@pytest.mark.equation("C12")
def test_the_papers_sizes_give_the_published_count():
    paper = BackboneParams()
    assert paper.head_dim == 112
    assert count_parameters(paper, TokenizerParams().vocab_size) == 1_499_205_120
    by_hand = {
        "embeddings": 150_000 * 3584,
        "attention": 8 * (2 * 3584 * 3584 + 2 * 3584 * 8 * 112),
        "feed_forward": 8 * 3 * 3584 * 8192,
        "norms": (2 * 8 + 1) * 3584,
        "head": 0,
    }
    assert parameter_audit(configuration(paper, 150_000)) == by_hand
    untied = paper.model_copy(update={"tie_embeddings": False})
    assert count_parameters(untied, 150_000) - 1_499_205_120 == 150_000 * 3584


def test_the_audit_counts_a_real_model():
    model = build(SMALL, 320, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == count_parameters(SMALL, 320)


def test_flops_are_those_that_torch_counts():
    from torch.utils.flop_counter import FlopCounterMode

    one_head = SMALL.model_copy(update={"kv_heads": 4})
    model = LlamaForCausalLM(configuration(one_head, 320))
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(torch.ones(1, 40, dtype=torch.long), use_cache=False)
    expected = 40 * flops_per_token(configuration(one_head, 320), 40)
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-3)  # some versions take the table of angles by a product


def test_describe_names_petabytes():
    wide = BackboneParams(layers=10, hidden_size=1_000_000, heads=1000, kv_heads=1000, ffn_size=10_000_000)
    assert "PB in fp32" in describe(configuration(wide, 10_000_000))["memory of the weights"]


def test_describe_names_the_size():
    found = describe(configuration(BackboneParams(), TokenizerParams().vocab_size))
    assert found["parameters"] == 1_499_205_120
    assert found["memory of the weights"] == "6.0 GB in fp32, 3.0 GB in bf16"


@pytest.mark.equation("next_token")
def test_the_training_loss_and_its_gradient_are_transformers_own():
    torch.manual_seed(0)
    ours, theirs = build(SMALL, 320, seed=0).double(), LlamaForCausalLM(configuration(SMALL, 320)).double()
    theirs.load_state_dict(ours.state_dict())
    ids = torch.randint(3, 320, (3, 20))
    labels = torch.where(torch.rand(3, 20) < 0.4, -100, ids)
    for counted in ({}, {"num_items_in_batch": 7}):
        losses = [model(input_ids=ids, labels=labels, **counted).loss for model in (ours, theirs)]
        torch.testing.assert_close(losses[0].float(), losses[1], rtol=1e-6, atol=0)  # transformers' loss is float32 always
    ours(input_ids=ids, labels=labels).loss.backward()
    logits = theirs(input_ids=ids).logits[:, :-1]
    nn.functional.cross_entropy(logits.reshape(-1, 320), labels[:, 1:].reshape(-1)).backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12, msg=name)
    assert ours(input_ids=ids).logits.shape == (3, 20, 320)


def test_cross_entropy_over_more_than_one_chunk():
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(1100, 8, dtype=torch.float64), torch.randn(50, 8, dtype=torch.float64), torch.randint(50, (1100,))
    expected = nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    torch.testing.assert_close(cross_entropy_sum(hidden, weight, targets), expected, rtol=1e-12, atol=0)


def test_a_saved_model_is_stock_and_comes_back(saved):
    config = json.loads((saved / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and config["model_type"] == "llama"
    ids = torch.arange(3, 20)[None]
    expected = build(SMALL, 320, seed=0).eval()(input_ids=ids).logits
    torch.testing.assert_close(AutoModelForCausalLM.from_pretrained(saved).eval()(ids).logits, expected)
    torch.testing.assert_close(load(saved).eval()(input_ids=ids).logits, expected)


def test_weights_follow_the_seed():
    a, b, c = (build(SMALL, 320, seed).model.embed_tokens.weight for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_zero_residual_weights_start_every_layer_as_the_identity():
    model = build(SMALL.model_copy(update={"residual_init": "zero"}), 320, seed=0).eval()
    ids = torch.arange(3, 20)[None]
    torch.testing.assert_close(model.model(ids).last_hidden_state, model.model.norm(model.model.embed_tokens(ids)))
    normal = build(SMALL, 320, seed=0)
    assert torch.equal(normal.model.layers[0].self_attn.q_proj.weight, model.model.layers[0].self_attn.q_proj.weight)


@pytest.mark.parametrize("pooling", ["mean", "lasttoken"])
def test_the_encoder_pools_the_states_of_the_model(saved, pooling):
    encoder = to_sentence_transformer(saved, pooling, max_length=16, device="cpu")
    model = AutoModel.from_pretrained(saved).eval()
    model.config.is_causal = False
    for text, vector in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        ids = encoder.tokenizer(text, truncation=True, max_length=16)["input_ids"]
        assert ids[0] == 1 and ids[-1] == 2
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0]
        state = states.mean(0) if pooling == "mean" else states[-1]
        np.testing.assert_allclose(vector, (state / state.norm()).numpy(), atol=1e-6)


def test_what_is_saved_does_not_say_how_its_tokenizer_was_read(saved, tmp_path, monkeypatch):
    """transformers notes whether the hub might have been asked: the same model would be other bytes on a machine without one."""
    for offline in (False, True):
        monkeypatch.setattr("transformers.tokenization_utils_base.is_offline_mode", lambda offline=offline: offline)
        tokenizer = AutoTokenizer.from_pretrained(str(saved))
        assert tokenizer.init_kwargs["local_files_only"] is offline
        save(load(saved), tokenizer, tmp_path / f"{offline}/model")
        export(to_sentence_transformer(saved, "mean", max_length=16, device="cpu"), tmp_path / f"{offline}/encoder")
    for name in ("model", "encoder"):
        online, without = ((tmp_path / offline / name / "tokenizer_config.json").read_bytes() for offline in ("False", "True"))
        assert online == without


def test_what_is_saved_does_not_say_what_was_read_last(saved, tmp_path):
    """As of a stage that is killed after its last step and goes on without one."""
    for texts in ([], ["a"], ["the river runs " * 99, "stone"]):
        encoder = to_sentence_transformer(saved, "mean", max_length=16, device="cpu")
        if texts:
            encoder.encode(texts)
            encoder.tokenizer(texts, max_length=8, truncation=True)
        export(encoder, tmp_path / str(len(texts)))
    files = ["tokenizer.json", "tokenizer_config.json"]
    fresh, *others = ([(tmp_path / str(number) / name).read_bytes() for name in files] for number in range(3))
    assert others == [fresh, fresh] and json.loads(fresh[0])["truncation"]["max_length"] == 16


def test_the_export_names_none_of_our_code(saved, tmp_path):
    encoder = to_sentence_transformer(saved, "mean", max_length=16, device="cpu")
    encoder[0].model.config.soft_mask_alpha = 0.5  # what training leaves behind
    export(encoder, tmp_path / "export")
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    assert config["is_causal"] is False and config["architectures"] == ["LlamaModel"]
    assert not any("soft_mask" in path.read_text() for path in (tmp_path / "export").rglob("*.json"))
    again = SentenceTransformer(str(tmp_path / "export"), device="cpu")
    np.testing.assert_allclose(again.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)
    assert again.max_seq_length == 16
    export(encoder, tmp_path / "causal", causal=True)
    refusals = [path.parent.name for path in tmp_path.rglob("config.0.json")]  # what a transformers finds that is too old for is_causal
    assert refusals == ["export"]


def test_a_family_whose_stock_form_stays_causal_is_not_exported(saved, tmp_path):
    encoder = to_sentence_transformer(saved, "mean", max_length=16, device="cpu")
    sizes = {"vocab_size": 320, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = StableLmModel(StableLmConfig(**sizes, num_key_value_heads=2))
    encoder[0].model = model
    before = model.config.to_dict()
    with pytest.raises(UserError, match=r"a stock StableLmModel under sdpa stays causal in a batch without padding: .*another backbone"):
        export(encoder, tmp_path / "export")
    assert not (tmp_path / "export").exists() and model.config.to_dict() == before
    export(encoder, tmp_path / "causal", causal=True)


def test_a_checkpoint_in_half_precision_comes_back_in_fp32_to_be_trained(saved, tmp_path):
    AutoModelForCausalLM.from_pretrained(saved, dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert {weight.dtype for weight in load(tmp_path).parameters()} == {torch.float32}


@pytest.mark.parametrize("mask", [None, torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])], ids=["no padding", "padding"])
def test_the_reloaded_model_is_bidirectional_and_the_language_model_causal(saved, tmp_path, mask):
    export(to_sentence_transformer(saved, "mean", max_length=16, device="cpu"), tmp_path / "export")
    a, b = torch.tensor([[1, 7, 8, 9], [1, 7, 8, 0]]), torch.tensor([[1, 7, 8, 10], [1, 7, 11, 0]])  # the last own token differs
    for folder, moves in ((tmp_path / "export", True), (saved, False)):
        model = AutoModel.from_pretrained(folder).eval()
        with torch.no_grad():
            first, other = (model(ids, attention_mask=mask).last_hidden_state[:, 0] for ids in (a, b))
        assert ((first - other).abs().amax(1) > 1e-3).tolist() == [moves, moves]


def test_a_folder_without_a_model_or_its_weights_is_one_clear_line(tmp_path):
    actions = load, lambda folder: to_sentence_transformer(folder, "mean", 16)
    for action in actions:
        with pytest.raises(UserError, match="no model here"):
            action(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    for action in actions:
        with pytest.raises(UserError, match=r"the weights are not here, .*: unpack the weights parcel \(pack --weights\), or delete .*"):
            action(tmp_path)


@pytest.mark.equation("next_token")
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_the_fused_loss_is_the_loss_and_has_its_gradients(rows, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(size, 12, dtype=torch.float64, generator=generator, requires_grad=True) for size in (23, 50))
    targets = torch.randint(50, (23,), generator=generator)
    expected = F.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    wanted = torch.autograd.grad(3 * expected, (hidden, weight))
    monkeypatch.setattr(fused_loss, "HELD", rows * 50)
    held = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda *inputs: held.append(linear(*inputs)) or held[-1])
    found = fused_loss.fused_cross_entropy_sum(hidden, weight, targets)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    for one, other in zip(torch.autograd.grad(3 * found, (hidden, weight)), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-13)
    assert max(map(len, held)) == min(rows, 23)


def test_the_fused_loss_of_nothing_is_zero():
    hidden, weight = torch.zeros(0, 4, requires_grad=True), torch.ones(9, 4, requires_grad=True)
    loss = fused_loss.fused_cross_entropy_sum(hidden, weight, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss == 0 and not weight.grad.any()
