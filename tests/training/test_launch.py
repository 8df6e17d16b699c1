"""Invariants: two processes over gloo, each with all weights (DDP) or with shares of them (FSDP2), have the losses of one at every step and
its weights within rounding, in all four stages; a killed process ends the launch, which goes on with another number of processes from
shares, and leaves one safetensors file; a deadline or a signal stops all of them at one step, and only the first reports."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from conan_lib.errors import Stopped
from conan_lib.model.tokenizer import train_tokenizer
from conan_lib.params import Runtime
from conan_lib.run.cli.mistakes import told
from conan_lib.run.launch import tasks_of_srun
from conan_lib.stages import compute, open_stage
from conan_lib.training.recorder import Recorder, last_checkpoint
from tests.small_pairs import finish_sets
from tests.training.launched import DIED, launch, launched_params

HERE = Path(__file__).parents[2]
STAGES = ("pretrain", "sft", "weak", "supervised")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The artefacts of one process."""
    root = tmp_path_factory.mktemp("alone")
    params = launched_params(root)
    finish_sets(params)
    train_tokenizer(open_stage("tokenizer", params))
    for name in ("pretrain", "sft", "weak", "mine", "supervised"):
        compute(open_stage(name, params))
    return root


def call(command: list[str], folder: Path = HERE) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{HERE}{os.pathsep}{HERE / 'tests'}",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def without(alone: Path, root: Path, *stages: str) -> None:
    """For each stage a copy of the artefacts that lacks it."""
    for name in stages:
        shutil.copytree(alone, root / name, ignore=lambda folder, names, name=name: [name] if Path(folder) == alone else [])


def compare(alone: Path, root: Path, name: str) -> None:
    """One process' result and that of a launch."""
    wanted, found = (open_stage(name, launched_params(place)) for place in (alone, root / name))
    rows = [json.loads((stage.path / "history.json").read_text()) for stage in (wanted, found)]
    losses = [[(row["step"], row.get("task"), pytest.approx(row["loss"], rel=1e-4)) for row in own] for own in rows]
    assert losses[0] == [(row["step"], row.get("task"), row["loss"]) for row in rows[1]]
    weights = [load_file(stage.path / "model" / "model.safetensors") for stage in (wanted, found)]
    assert weights[0].keys() == weights[1].keys()
    for key, weight in weights[0].items():
        torch.testing.assert_close(weights[1][key], weight, rtol=1e-3, atol=1e-4)
    assert wanted.results.keys() == found.results.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("how", "stages"), [("ddp", STAGES[:2]), ("fsdp", STAGES)], ids=["ddp", "fsdp"])
def test_two_processes_are_one(alone, tmp_path, how, stages):
    """The contrastive stages under DDP: test_processes.py."""
    without(alone, tmp_path, *stages)
    launch(str(tmp_path), how, ",".join(stages))
    for name in stages:
        compare(alone, tmp_path, name)


@pytest.mark.slow
def test_a_killed_process_ends_the_launch_and_one_goes_on_from_the_shares_of_two(alone, tmp_path):
    without(alone, tmp_path, "weak")
    with pytest.raises(ChildFailedError, match=DIED):
        launch(str(tmp_path), "fsdp", "weak", "6")
    stage = open_stage("weak", launched_params(tmp_path / "weak"))
    assert stage.status == "partial"
    assert (last_checkpoint(stage.path / "checkpoints") / "pytorch_model_fsdp_0").is_dir()
    with pytest.raises(ChildFailedError, match="checkpoint-4: written by FSDP, and this launch goes on without it"):
        launch(str(tmp_path), "ddp", "weak", processes=1)
    launch(str(tmp_path), "fsdp", "weak", processes=1)
    compare(alone, tmp_path, "weak")


@pytest.mark.slow
def test_a_launch_stops_at_one_step_goes_on_and_reports_once(alone, tmp_path):
    without(alone, tmp_path, "sft")
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(launched_params(tmp_path / "sft").model_dump(mode="json", exclude_none=True)))
    start = [str(Path(sys.executable).parent / "accelerate"), "launch", "--config_file", str(HERE / "params/accelerate/cpus.yaml")]
    train = [*start, "-m", "conan_lib", "train", "sft", "sft.yaml"]
    late = call([*train, "--minutes", "1e-5"], tmp_path)
    assert late.returncode != 0 and late.stderr.count("conan-lib: stopped at step 1 of 9; run it again to go on") == 2
    done = call(train, tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count(": finished, ") == 1 and "partial" not in done.stdout
    compare(alone, tmp_path, "sft")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_a_deadline_while_training_and_only_then(alone, tmp_path, monkeypatch, number):
    without(alone, tmp_path, "sft")
    stage = open_stage("sft", launched_params(tmp_path / "sft", runtime={"stop_on_signal": True, "save_steps": 100}))
    before, ended = signal.getsignal(number), Recorder.on_step_end

    def signalled(self, args, state, control, **rest):
        if state.global_step == 3:
            os.kill(os.getpid(), number)
        ended(self, args, state, control, **rest)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="stopped at step 3 of 9"):
        patch.setattr(Recorder, "on_step_end", signalled)
        compute(stage)
    assert signal.getsignal(number) is before and not Runtime().stop_on_signal
    assert last_checkpoint(stage.path / "checkpoints").name == "checkpoint-3"
    compute(stage)
    compare(alone, tmp_path, "sft")


def test_tasks_of_srun_are_processes_of_a_launch_and_the_script_of_a_job_is_one():
    task = {"SLURM_JOB_ID": "70001", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
    found = tasks_of_srun(task | {"SLURM_STEP_NODELIST": "gpu[07-08,11]"})
    assert found == {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu07", "MASTER_PORT": "50001"}
    assert tasks_of_srun(task | {"SLURM_STEP_NODELIST": "a1,b2"})["MASTER_ADDR"] == "a1"
    assert tasks_of_srun({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"})["MASTER_ADDR"] == "localhost"
    alone = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, task | {"RANK": "0"}, task | {"SLURM_STEP_NUM_TASKS": "1"}, {}
    assert [tasks_of_srun(env) for env in alone] == [{}] * 4


def test_a_lost_peer_is_one_line():
    line, code = told(RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:14493."))
    assert line.startswith("another process of this launch has ended") and code == 1
    assert told(RuntimeError("shapes do not fit")) is None
