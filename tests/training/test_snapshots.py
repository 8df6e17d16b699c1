"""Invariants: snapshots change no weight and no key where there are none; a run that stops at a snapshot's step has its weights, and is as
far from its start; killed and resumed they are the same; adapters are merged; every step has the norm of its gradients before clipping."""

import json

import pytest
import torch
from safetensors.torch import load_file

from conan_lib.params.training import WeakParams
from conan_lib.stages import open_stage
from conan_lib.training.contrastive import train_weak
from conan_lib.training.embedder import ContrastiveTrainer
from conan_lib.training.recorder import Recorder
from conan_lib.training.snapshots import snapshot
from tests.small_pairs import finish_inputs, pair_params

LORA = {"rank": 2, "embeddings": True}
WEAK = {"max_steps": 12, "schedule": "constant", "warmup_ratio": 0.0, "soft_mask": {"attention": "bidirectional"}}


def trained(root, **weak):
    params = pair_params(root, weak=WEAK | weak, runtime={"save_steps": 5})
    if not open_stage("sft", params).finished:
        finish_inputs(params)
    return train_weak(open_stage("weak", params))


def weights(stage, folder="model"):
    return load_file(stage.path / folder / "model.safetensors")


def history(stage):
    return json.loads((stage.path / "history.json").read_text())


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "LoRA"])
def test_a_snapshot_holds_the_weights_of_a_run_that_ends_there(tmp_path, lora):
    plain, stage, short = (trained(tmp_path, lora=lora, **own) for own in ({}, {"snapshots": [0.25, 0.5]}, {"max_steps": 3}))
    assert sorted(path.name for path in (stage.path / "snapshots").iterdir()) == ["step-3.safetensors", "step-6.safetensors"]
    one, other = weights(plain), weights(stage)
    assert plain.key != stage.key and all(torch.equal(one[name], other[name]) for name in one)
    kept, ended = load_file(snapshot(stage.path, 3)), weights(short)
    assert kept.keys() == ended.keys() and all(torch.equal(kept[name], ended[name].bfloat16()) for name in ended)
    start = load_file(stage.inputs["sft"].path / "model" / "model.safetensors")
    start = {name.removeprefix("model."): weight.double() for name, weight in start.items()}
    rows = {row["step"]: row["distance"] for row in history(stage) if "distance" in row}
    assert list(rows) == [3, 6, 12]
    for step, there in ((3, ended), (12, other)):
        moved = torch.cat([(weight.double() - start[name]).flatten() for name, weight in there.items()]).norm()
        assert rows[step] == pytest.approx((moved / torch.cat([weight.flatten() for weight in start.values()]).norm()).item(), rel=1e-6)


def test_killed_and_resumed_the_snapshots_are_the_same(tmp_path, monkeypatch):
    whole = trained(tmp_path / "whole", snapshots=[0.5, 0.75])
    real = Recorder.on_step_end

    def dying(self, args, state, control, **kwargs):
        real(self, args, state, control, **kwargs)
        if state.global_step == 7:  # after the first snapshot, and after the checkpoint before it
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "on_step_end", dying)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed", snapshots=[0.5, 0.75])
    again = trained(tmp_path / "killed", snapshots=[0.5, 0.75])
    assert history(again) == history(whole)
    for step in (6, 9):
        one, other = (load_file(snapshot(stage.path, step)) for stage in (whole, again))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_every_step_has_the_norm_of_its_gradients_before_clipping(tmp_path, monkeypatch):
    norms, real = [], ContrastiveTrainer._clip_grad_norm

    def clip(self, model):
        norms.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]).norm().item())
        return real(self, model)

    monkeypatch.setattr(ContrastiveTrainer, "_clip_grad_norm", clip)
    rows = history(trained(tmp_path, max_grad_norm=0.1))
    assert [row["grad_norm"] for row in rows] == pytest.approx(norms, rel=1e-5) and len(norms) == 12 and min(norms) > 0.1


@pytest.mark.parametrize("shares", [[0], [1.0], [0.5, 0.25], [0.5, 0.51], [0.01]])
def test_shares_are_of_different_steps_between_start_and_end(shares):
    with pytest.raises(ValueError, match="give rising shares of different steps, above 0 and below 1"):
        WeakParams(max_steps=10, snapshots=shares)
