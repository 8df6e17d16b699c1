"""Pins: the code of docs/dhnm.md runs as it stands, on a small random Qwen3 in the place of the hub's with three steps: own pairs become a
stock model with prompts, and the pool in a loop of one's own swaps; every page says alike when a swap acts."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from conan_lib.errors import UserError
from conan_lib.negatives import NegativePool
from tests.small_pairs import tables
from tests.test_guide import HUB_NAME, save_small_qwen3

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "dhnm.md").read_text(encoding="utf-8")
SMALL = {HUB_NAME: "qwen3", "steps = 500": "steps = 3", "(256, 512, 1024)": "(8, 16)", "truncate_dim=256": "truncate_dim=8"}


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """(folder, names) after all blocks have run in order, as one script."""
    folder, names = tmp_path_factory.mktemp("guide"), {}
    save_small_qwen3(folder / "qwen3")
    pairs = [{"query": row["anchor"], "passage": row["positive"]} for row in tables()["clr"]]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
            for large, small in SMALL.items():
                block = block.replace(large, small)
            exec(compile(block, "docs/dhnm.md", "exec"), names)
    return folder, names


def test_only_sizes_and_the_hub_name_are_replaced():
    assert [GUIDE.count(large) for large in SMALL] == [1, 1, 1, 1]


def test_own_pairs_become_a_stock_model(executed):
    folder, names = executed
    config = json.loads((folder / "stage-4" / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["Qwen3Model"] and config["is_causal"] is False
    assert not [path for path in (folder / "stage-4" / "model").rglob("*.json") if "soft_mask" in path.read_text(encoding="utf-8")]
    assert names["embedder"].prompts["query"] == "Find the passage that answers: " and names["question"].shape == (8,)
    whole = names["model"].encode_query(names["pairs"][0]["query"])[:8]
    np.testing.assert_allclose(names["question"], whole / np.linalg.norm(whole) * np.linalg.norm(names["question"]), atol=1e-5)
    assert [row["task"] for row in names["run"].history].count("retrieval") == 2 and len(names["run"].history) == 3


def test_the_pool_in_a_loop_of_ones_own_swaps(executed):
    _, names = executed
    assert names["pool"].swaps > 0 and names["drawn"] == [7, 7, 8]


def test_the_answer_is_no_negative_however_many_candidates_are_taken(executed):
    _, names = executed
    mined = names["mined"]
    assert NegativePool(mined.topk(49).indices, 3, positives=range(6)).n == 3  # all passages but the answer
    with pytest.raises(UserError, match=r"pool 0 holds its own positive, row 0: .* K at most the passages - 1"):
        NegativePool(mined.topk(50).indices, 3, positives=range(6))


def test_every_page_says_alike_when_a_swap_acts():
    notebook = json.loads((ROOT / "notebooks" / "06_supervised.ipynb").read_text(encoding="utf-8"))
    prose = "".join("".join(cell["source"]) for cell in notebook["cells"])
    for text in (GUIDE, prose.replace("$", ""), NegativePool.__doc__):
        assert "wap of batch m acts at its pool's first visit from batch m + 2 on" in " ".join(text.split())
