"""Pins: every system of the benchmark is timed as often as the others and has the parameters of its file, up to the paper's count; random
ids come from the whole vocabulary; a budget shrinks the calls; what does not fit or is not installed says why; the report reads
the file."""

import json

import numpy as np
import pytest
import torch

from benchmarks import efficiency
from conan_lib.errors import UserError
from conan_lib.model.backbone import count_parameters
from conan_lib.params import load_params
from conan_lib.topics.speed.show import speed_table

SMALL = ["--device", "cpu", "--sizes", "smoke,tiny", "--texts", "4", "--length", "24", "--batch", "3", "--repeats", "3", "--threads", "1"]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_sizes_and_peers_side_by_side(tmp_path):
    folder = efficiency.main([*SMALL, "--peers", "wordllama", "--out", str(tmp_path)])
    results = json.loads((folder / "efficiency.json").read_text())
    rows = {row["model"]: row for row in results["systems"]}
    assert list(rows) == ["smoke", "tiny", "wordllama"] and results["baseline"] == "tiny" and results["skipped"] == {}
    for name in ("smoke", "tiny"):
        params = load_params(efficiency.ROOT / "params" / f"{name}.yaml")
        assert rows[name]["parameters"] == count_parameters(params.backbone, params.tokenizer.vocab_size)
        assert rows[name]["weights_mb"] == round(4 * rows[name]["parameters"] / 1e6, 1)
    assert rows["tiny"]["parameters"] == 1_426_048
    for row in rows.values():
        assert row["texts"] == 4 and row["repeats"] == 3 and 0 < row["low"] <= row["rate"] <= row["high"]
        assert row["tokens_per_second"] == 24 * row["rate"]
    assert {rows["tiny"][field] for field in ("ratio", "ratio_low", "ratio_high")} == {1.0}
    assert {"device", "machine", "packages", "revision", "date", "dtype", "seed", "note"} <= set(results)
    table = (folder / "efficiency.md").read_text()
    assert all(f"| {name} |" in table for name in rows) and "None" not in table.partition("| model |")[2]
    assert list(speed_table(results["systems"])["model"]) == list(rows)


def test_a_size_encodes_its_own_texts_in_batches():
    chosen = efficiency.parse(SMALL)
    size = efficiency.Size(load_params(efficiency.ROOT / "params" / "smoke.yaml"), chosen)
    assert size.ids.shape == (4, 24) and size.ids.min() >= 3 and 1000 < size.ids.max() < 1024
    vectors = size(4)
    assert np.linalg.norm(vectors.numpy(), axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert torch.allclose(vectors[:2], size(2), atol=1e-6)
    assert torch.allclose(
        vectors[3], torch.nn.functional.normalize(size.model(size.ids[3:]).last_hidden_state.mean(1), dim=1)[0], atol=1e-5
    )
    half = efficiency.Size(load_params(efficiency.ROOT / "params" / "smoke.yaml"), efficiency.parse([*SMALL, "--dtype", "bf16"]))
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.bfloat16}
    assert half.facts["weights_mb"] == pytest.approx(size.facts["weights_mb"] / 2, abs=0.1)


def test_a_budget_shrinks_the_calls(monkeypatch):
    asked = []
    monkeypatch.setattr(efficiency, "fitting", lambda call, most, seconds, device: asked.append((most, seconds)) or 2)
    results = efficiency.measure(efficiency.parse([*SMALL, "--peers", "none", "--budget", "50"]))
    assert asked == [(4, 50 / 2 / 5)] * 2 and {row["texts"] for row in results["systems"]} == {2}


def test_what_does_not_fit_or_is_not_installed_says_why(monkeypatch):
    from conan_lib.evaluation import peers

    def missing(threads):
        raise UserError("peers.models: the package x is not installed")

    monkeypatch.setattr(peers, "PEER_ENCODERS", {"x": missing})
    free = iter([1e9, 1e3])
    monkeypatch.setattr(efficiency, "available_bytes", lambda device: next(free))
    results = efficiency.measure(efficiency.parse(SMALL))
    assert [row["model"] for row in results["systems"]] == ["smoke"] and results["baseline"] == "smoke"
    assert results["skipped"]["tiny"].startswith("does not fit") and "not installed" in results["skipped"]["x"]
    assert "| tiny | does not fit" in efficiency.markdown(efficiency.facts(efficiency.parse(SMALL)) | results)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--texts", "0"], "--texts: give a number above 0"),
        (["--length", "2"], "at least 4 tokens"),
        (["--sizes", "huge"], "huge.yaml: no such parameter file"),
        (["--length", "1024"], "--length: 1024 is above smoke's backbone.context_length 128"),
        (["--sizes", "smoke", "--peers", "fast"], "--peers fast: choose among"),
    ],
)
def test_mistakes(command, message):
    with pytest.raises(UserError, match=message):
        efficiency.main([*SMALL, *command])
