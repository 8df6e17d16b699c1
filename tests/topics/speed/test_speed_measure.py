"""Every system is timed beside ours; killed and run again, the same numbers come out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from conan_lib.topics.retrieval.measure import checkpoint_encoder
from conan_lib.topics.speed import measure as efficiency
from conan_lib.topics.speed.measure import measure_efficiency


@pytest.fixture(scope="module")
def stage(ready):
    return measure_efficiency(ready("efficiency"))


@pytest.fixture(scope="module")
def speed(stage):
    return {row["model"]: row for row in json.loads((stage.path / "speed.json").read_text())}


def test_every_system_is_timed_beside_ours(speed):
    assert set(speed) == {"supervised", "wider", *efficiency.PEER_ENCODERS}
    for row in speed.values():
        assert row["low"] <= row["rate"] <= row["high"] and row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["repeats"] == 3 and 1 <= row["texts"] <= 16 and row["parameters"] > 0 and row["dim"] > 0
    assert {speed["supervised"][field] for field in ("ratio", "ratio_low", "ratio_high")} == {1.0} and speed["supervised"]["mrl"]
    assert (speed["wider"]["kind"], speed["wider"]["dim"], speed["wider"]["mrl"]) == ("random weights", 24, None)


def test_only_the_peers_that_are_asked_for_take_turns(stage):
    """A machine without the peers' packages says `peers: []`; that leaves tiers that say nothing with their keys."""
    assert stage.efficiency.peers is None and "peers" not in stage.efficiency.model_dump(exclude_none=True)
    for peers in ((), ("wordllama",)):
        section = stage.efficiency.model_copy(update={"peers": peers})
        own = replace(stage, params=stage.params.model_copy(update={"efficiency": section}))
        rows = efficiency._speed(own, checkpoint_encoder(own, "supervised", 8))
        assert [row["model"] for row in rows] == ["supervised", "wider", *peers]
        assert {row["device"] for row in rows} == {"cuda" if torch.cuda.is_available() else "cpu"}


def test_another_size_is_our_model_with_another_backbone(stage, speed):
    encode, facts = efficiency._random(stage, stage.efficiency.sizes["wider"])
    vectors = encode(["one text", "another text that is longer"])
    assert vectors.shape == (2, 24) and np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(2), abs=1e-5)
    assert facts["parameters"] == speed["wider"]["parameters"] > facts["embedding_parameters"] == 400 * 24


def test_killed_and_run_again_the_same_numbers_come_out(ready, params, stage, monkeypatch):
    changed = params.model_copy(update={"efficiency": params.efficiency.model_copy(update={"dims": (4, 8)})})
    again = ready("efficiency", changed)
    with monkeypatch.context() as patch:
        patch.setattr(efficiency, "take_turns", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            measure_efficiency(again)
    assert again.status == "partial"
    measure_efficiency(again)
    rows = json.loads((again.path / "quality.json").read_text())
    assert [row for row in rows if row["dim"] != 8] == json.loads((stage.path / "quality.json").read_text())
    timed = [json.loads((one.path / "speed.json").read_text()) for one in (again, stage)]
    sizes = [
        [{k: row[k] for k in ("model", "kind", "parameters", "embedding_parameters", "dim", "max_tokens", "mrl")} for row in one]
        for one in timed
    ]
    assert sizes[0] == sizes[1]


def test_a_suite_of_the_hub_has_no_quality_rows(ready, params):
    suite = params.model_copy(update={"tasks": params.tasks.model_copy(update={"suite": "MTEB(eng, v2)"})})
    assert efficiency._quality(ready("efficiency", suite), {}) == []
