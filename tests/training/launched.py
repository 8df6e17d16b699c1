"""Launches, and what a launched process runs: stages of a small run under DDP or FSDP2, over gloo."""

import os
import signal
from contextlib import chdir
from multiprocessing import forkserver
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from conan_lib.stages import compute, open_stage
from conan_lib.training.recorder import Recorder
from tests.small_pairs import pair_params

FSDP = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "LlamaDecoderLayer", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}  # fmt: skip
"""What `accelerate launch` sets from params/accelerate/gpus-fsdp2.yaml."""


def launched_params(root, **sections):
    """A learning rate at which rounding stays rounding."""
    common = {"learning_rate": 1e-3, "max_grad_norm": 1e9}
    supervised = common | sections.pop("supervised", {})
    runtime = {"save_steps": 4, **sections.pop("runtime", {})}
    return pair_params(root, weak=common, supervised=supervised, runtime=runtime, **sections)


def shard_on_cpu() -> None:
    """accelerate shards on accelerators alone and asks for their kind; torch's fully_shard itself works over gloo."""
    os.environ.update(FSDP)
    begin = PartialState.__init__

    def as_if_gpus(self, *arguments, **options):
        begin(self, *arguments, **options)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    PartialState.__init__ = as_if_gpus


def die_after(step: int) -> None:
    """The last process is killed as the step ends."""
    ended = Recorder.on_step_end

    def dying(self, args, state, control, **rest):
        ended(self, args, state, control, **rest)
        if state.global_step == step and int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
            os.kill(os.getpid(), 9)

    Recorder.on_step_end = dying


def main(root: str, how: str, names: str, dies: str = "0") -> None:
    if how == "fsdp":
        shard_on_cpu()
    if int(dies):
        die_after(int(dies))
    for name in names.split(","):
        stage = open_stage(name, root if root.endswith(".yaml") else launched_params(f"{root}/{name}"))
        compute(stage)
        PartialState().wait_for_everyone()
        assert stage.finished


DIED = "exitcode  : -9|Connection (closed|reset) by peer"
"""How a launch ends of which one process was killed: by it, or by the other one, which it left alone."""


def launch(*arguments: str, processes: int = 2) -> None:
    """Call `main` as torchrun would, which test_processes.py starts; but in processes that are forked from one that has the imports.

    Raises:
        ChildFailedError: a process has ended otherwise than well.
    """
    forkserver.set_forkserver_preload([__name__])
    with chdir(Path(__file__).parents[2]):  # where it finds this module
        forkserver.ensure_running()
    caught = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)}
    once = {"run_id": "once", "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "max_restarts": 0}
    try:
        elastic_launch(LaunchConfig(1, 1, processes, start_method="forkserver", **once), main)(*arguments)
    finally:
        for number, handler in caught.items():
            signal.signal(number, handler)
