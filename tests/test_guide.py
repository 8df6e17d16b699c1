"""Pins: the code of docs/soft_mask.md runs as it stands, on a small random Qwen3 in the place of the hub's: the trained model reloads as a
stock one with equal vectors, the mask alone is transformers' own at its ends, and every refusal is a refusal."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from conan_lib.attention.register import DEFAULTS

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "soft_mask.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
HUB_NAME = "Qwen/Qwen3-0.6B-Base"


def save_small_qwen3(folder: Path) -> None:
    torch.manual_seed(0)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: place for place, letter in enumerate(["<pad>", *letters])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", padding_side="left", model_max_length=64).save_pretrained(folder)
    config = Qwen3Config(
        vocab_size=len(letters) + 1, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, initializer_range=0.3, pad_token_id=0, eos_token_id=None, bos_token_id=None,
    )  # fmt: skip
    Qwen3Model(config).to(torch.bfloat16).save_pretrained(folder)  # as the hub's is


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """(folder, names) after all blocks have run in order, as one script."""
    folder = tmp_path_factory.mktemp("guide")
    save_small_qwen3(folder / "qwen3")
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        for block in BLOCKS:
            exec(compile(block.replace(HUB_NAME, "qwen3"), "docs/soft_mask.md", "exec"), names)
    return folder, names


def test_the_hub_name_is_the_only_thing_replaced():
    assert len(BLOCKS) == 6 and GUIDE.count(HUB_NAME) == 3


def test_a_bf16_checkpoint_trains_in_fp32(executed):
    folder, names = executed
    assert json.loads((folder / "qwen3" / "config.json").read_text())["dtype"] == "bfloat16"
    assert {weight.dtype for weight in names["model"].parameters()} == {torch.float32}


def test_a_text_within_the_window_is_taken(executed):
    _, names = executed
    assert names["fits"].shape == (1, 8, 16)


def test_alpha_ran_along_the_schedule(executed):
    _, names = executed
    assert names["trainer"].state.global_step == names["steps"] == 10
    assert names["soft_mask"].alpha(3) == pytest.approx(0.3)


def test_the_saved_model_is_a_stock_one(executed):
    folder, names = executed
    saved = folder / "qwen3-embedder"
    config = json.loads((saved / "config.json").read_text())
    assert config["is_causal"] is False
    assert not [path.name for path in saved.rglob("*.json") if "soft_mask" in path.read_text(encoding="utf-8")]
    np.testing.assert_allclose(names["again"], names["vectors"], atol=1e-5)
    assert names["embedder"][0].model.config._attn_implementation == "sdpa"


def test_the_mask_acts(executed):
    _, names = executed
    assert (names["soft"] - names["causal"]).norm() > 0.01 * names["causal"].norm()


def test_the_mask_alone_moves_between_the_stock_ends(executed):
    """The block itself compares the ends with transformers' own."""
    _, names = executed
    assert set(names["stock"]) == {0.0, 1.0} and list(names["found"]) == [0.0, 0.1, 0.5, 1.0]
    assert names["moved"][0] == 0 and min(names["moved"][1:]) > 0.01 * names["found"][0.0][0].norm()
    gradients = [gradient for _, gradient in names["found"].values()]
    assert (gradients[3] - gradients[0]).norm() > 0.01 * gradients[0].norm() > 1e-4


def test_the_default_alpha_is_told():
    assert DEFAULTS["soft_mask_alpha"] == 1.0 and "**The default alpha is 1.0: bidirectional.**" in GUIDE


def test_every_attempt_is_refused(executed):
    _, names = executed
    reasons = (
        "windows of 8 tokens",
        "uses softcap",
        "4-D mask",
        "outside 0..1",
        "is not one of l/i, i/l",
        "neither causal nor bidirectional",
    )
    assert len(names["refused"]) == len(reasons)
    for message, reason in zip(names["refused"], reasons, strict=True):
        assert reason in message
