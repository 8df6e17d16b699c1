"""Invariants: two processes over gloo train as one does, up to fp32 rounding, under the soft mask and with dynamic negatives, cached or
not, killed and resumed; they have its gradients and swap its negatives at its steps; the first alone writes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conan_lib.stages import open_stage
from conan_lib.training.contrastive import train_supervised, train_weak
from conan_lib.training.mine import mine_negatives
from conan_lib.training.recorder import Recorder
from tests.small_pairs import finish_inputs, pair_params

RUNS = {
    "weak": {},
    "supervised": {"dhnm": {"floor": 0.9}},
    "cached": {"dhnm": {"floor": 0.9}, "cached_minibatch": 5},
}
NORMS: dict[int, float] = {}


def note_gradient(self, args, state, control, model=None, **rest):
    """A callback: the gradient's norm of each step, unclipped. AdamW hides a wrong scale from the weights."""
    NORMS[state.global_step] = sum(parameter.grad.square().sum().item() for parameter in model.parameters()) ** 0.5


LAUNCHED = """
import os, sys
from pathlib import Path
import torch
from torch import distributed
from conan_lib.stages import open_stage
from conan_lib.training import contrastive, embedder
from conan_lib.training.recorder import Recorder
from tests.training.test_processes import NORMS, RUNS, note_gradient, parameters

root, rank, fit, on_step_end, dies = Path(sys.argv[1]), os.environ["RANK"], embedder.fit, Recorder.on_step_end, [9]

def watched(model, loss, *rest, **options):
    model, rows = fit(model, loss, *rest, **options)
    swaps = [(row["step"], row["swaps"]) for row in rows if row.get("swaps")]
    pool = loss.pool.state_dict() if loss.pool else {}
    torch.save({"weights": model.state_dict(), "pool": pool, "swaps": swaps, "norms": dict(NORMS)}, root / f"{name}-{rank}.pt")
    return model, rows

def dying(self, args, state, control, **rest):
    on_step_end(self, args, state, control, **rest)
    if name == "supervised" and state.global_step in dies:
        dies.clear()
        raise KeyboardInterrupt

embedder.fit, Recorder.on_step_end, Recorder.on_pre_optimizer_step = watched, dying, note_gradient
for name in RUNS:
    stage = open_stage("weak" if name == "weak" else "supervised", parameters(root / ("weak" if name == "weak" else "rest"), name))
    train = contrastive.train_weak if name == "weak" else contrastive.train_supervised
    try:
        train(stage)
    except KeyboardInterrupt:
        distributed.barrier()
        train(stage)
    distributed.barrier()
    assert stage.finished
distributed.destroy_process_group()
"""


def parameters(root: Path, name: str):
    """A learning rate at which rounding stays rounding; checkpoints so that a run that dies after step 9 starts again from step 8."""
    section = {"learning_rate": 1e-3, "max_grad_norm": 1e9} | ({} if name == "weak" else RUNS[name])
    return pair_params(root, supervised=section, weak={"learning_rate": 1e-3, "max_grad_norm": 1e9}, runtime={"save_steps": 4})


@pytest.mark.slow
def test_two_processes_are_one(tmp_path, monkeypatch):
    monkeypatch.setattr(Recorder, "on_pre_optimizer_step", note_gradient)
    norms = {}
    alone, weak, rest = (tmp_path / name for name in ("alone", "weak", "rest"))
    params = {name: parameters(alone, name) for name in RUNS}
    finish_inputs(params["weak"])
    shutil.copytree(alone, weak)
    train_weak(open_stage("weak", params["weak"]))
    norms["weak"] = dict(NORMS)
    mine_negatives(open_stage("mine", params["weak"]))
    shutil.copytree(alone, rest)
    for name in ("supervised", "cached"):
        train_supervised(open_stage("supervised", params[name]))
        norms[name] = dict(NORMS)

    script = tmp_path / "launched.py"
    script.write_text(LAUNCHED)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    here = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(here), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([*launch, str(script), str(tmp_path)], cwd=here, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]

    for name in RUNS:
        first, second = (torch.load(tmp_path / f"{name}-{rank}.pt") for rank in range(2))
        stage = open_stage("weak" if name == "weak" else "supervised", params[name])
        wanted = weights(stage.path)
        assert first["norms"] == pytest.approx(norms[name], rel=1e-4)
        for key, weight in first["weights"].items():
            assert torch.equal(weight, second["weights"][key])
            torch.testing.assert_close(weight, wanted[key.removeprefix("0.model.")], rtol=1e-5, atol=1e-6)
        twice = weights(next(((weak if name == "weak" else rest) / stage.artefact.stage).glob(stage.key)))
        assert all(torch.equal(twice[key.removeprefix("0.model.")], weight) for key, weight in first["weights"].items())
        if name != "weak":
            for key, value in first["pool"].items():
                torch.testing.assert_close(value, second["pool"][key], rtol=0, atol=0, equal_nan=True)
            history = history_of(stage.path)
            assert first["swaps"] == second["swaps"] == [(row["step"], row["swaps"]) for row in history if row.get("swaps")] != []


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def history_of(folder: Path) -> list[dict]:
    return json.loads((folder / "history.json").read_text())
