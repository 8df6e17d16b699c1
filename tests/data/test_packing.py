"""Packed documents are whole, in order and independent: nothing in one document moves another's logits, and the loss of a block is that of
its documents run one by one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM

from conan_lib.data.packing import IGNORE, Blocks
from conan_lib.errors import UserError
from conan_lib.model.backbone import build, configuration
from conan_lib.params.model import BackboneParams

BACKBONE = BackboneParams(
    layers=2, hidden_size=16, heads=4, kv_heads=2, ffn_size=24, context_length=64, initializer_range=0.3, residual_init="normal"
)
DOCUMENTS = [[1, 9, 8, 7, 2], [1, 5, 2], [1, 6, 6, 5, 4, 3, 2], [1, 9, 2]]


@given(st.lists(st.lists(st.integers(3, 9), max_size=9), min_size=1), st.integers(2, 7))
@settings(max_examples=200, deadline=None)
def test_blocks_hold_the_documents_in_order_and_predict_no_first_token(documents, length):
    flat = [token for document in documents for token in document]
    if len(flat) < length:
        with pytest.raises(UserError, match="do not fill one block"):
            Blocks(documents, length)
        return
    blocks = Blocks(documents, length)
    assert blocks[:]["input_ids"].flatten().tolist() == flat[: len(flat) // length * length]
    places = [i for document in documents for i in range(len(document))]
    for b in range(len(blocks)):
        for i in range(length):
            starts = i == 0 or places[b * length + i] == 0
            block = blocks[b]
            assert block["position_ids"][i] == (0 if starts else block["position_ids"][i - 1] + 1)
            assert block["labels"][i] == (IGNORE if starts else block["input_ids"][i])


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return build(BACKBONE, 12, seed=0).double().eval()


def logits(model, block: dict) -> torch.Tensor:
    inputs = {name: tensor[None] for name, tensor in block.items() if name != "labels"}
    return model(**inputs, use_cache=False).logits[0]


def test_a_token_moves_its_own_document_alone(model):
    block = Blocks(DOCUMENTS, 18)[0]
    other = {name: tensor.clone() for name, tensor in block.items()}
    other["input_ids"][6] = 11  # the second document is at 5, 6, 7
    moved = (logits(model, block) - logits(model, other)).abs().amax(1) > 0
    assert moved.nonzero().flatten().tolist() == [6, 7]


def test_without_the_document_mask_it_moves_all_that_follows(model):
    block = Blocks(DOCUMENTS, 18, document_mask=False)[0]
    assert "position_ids" not in block
    other = {name: tensor.clone() for name, tensor in block.items()}
    other["input_ids"][6] = 11
    moved = (logits(model, block) - logits(model, other)).abs().amax(1) > 0
    assert moved.nonzero().flatten().tolist() == list(range(6, 18))


def test_logits_and_loss_are_those_of_the_documents_one_by_one(model):
    blocks = Blocks(DOCUMENTS, 18)
    alone = LlamaForCausalLM(configuration(BACKBONE, 12)).double().eval()
    alone.load_state_dict(model.state_dict())
    each = [alone(torch.tensor([document])).logits[0] for document in DOCUMENTS]
    torch.testing.assert_close(logits(model, blocks[0]), torch.cat(each), rtol=1e-12, atol=1e-12)
    nats = [cross_entropy(z[:-1], torch.tensor(d[1:]), reduction="sum") for z, d in zip(each, DOCUMENTS, strict=True)]
    packed = model(**blocks[0:1]).loss
    torch.testing.assert_close(packed, sum(nats) / sum(len(d) - 1 for d in DOCUMENTS), rtol=1e-12, atol=1e-12)
