"""One process of a launch: what torch.distributed reads from the environment, and its end."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from conan_lib.artefacts import leads
from conan_lib.errors import Stopped, UserError


def tasks_of_srun(env: Mapping[str, str]) -> dict[str, str]:
    """What `accelerate launch` would have set, where this is one of several tasks that srun started without it; else nothing.

    The script of a batch job also has SLURM_NTASKS, but no step of srun, and is one process.
    """
    tasks, script = env.get("SLURM_STEP_NUM_TASKS", env.get("SLURM_NTASKS", "1")), "SLURM_JOB_ID" in env and "SLURM_STEP_ID" not in env
    if "RANK" in env or script or "SLURM_PROCID" not in env or int(tasks) < 2:
        return {}
    first = re.match(r"([^\[,]+)(?:\[(\d+))?", env.get("SLURM_STEP_NODELIST", env.get("SLURM_JOB_NODELIST", "localhost")))
    return {
        "RANK": env["SLURM_PROCID"],
        "WORLD_SIZE": tasks,
        "LOCAL_RANK": env.get("SLURM_LOCALID", env["SLURM_PROCID"]),
        "MASTER_ADDR": env.get("MASTER_ADDR", "".join(filter(None, first.groups()))),
        "MASTER_PORT": env.get("MASTER_PORT", str(20000 + int(env.get("SLURM_JOB_ID", 0)) % 40000)),
    }


@contextmanager
def launched() -> Iterator[bool]:
    """A block in which this is one process of a launch, of srun too; yields whether it is the first, and takes leave when it ends well."""
    os.environ.update(tasks_of_srun(os.environ))
    yield leads()
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def marked(file: Path | None) -> Iterator[None]:
    """A block after which `file` is there only if it raised Stopped: a launcher makes one exit code of all failures. None: no file.

    Raises:
        UserError: the file's folder is not there.
    """
    if file is not None:
        if not file.absolute().parent.is_dir():
            raise UserError(f"--stopped {file}: its folder is not there: make it, or name another")
        file.unlink(missing_ok=True)
    try:
        yield
    except Stopped:
        if file is not None:
            file.touch()
        raise
