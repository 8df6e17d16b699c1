"""A job file: runs and grids by priority, for a machine that is there for a while."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from conan_lib.params.base import Section
from conan_lib.params.load import check_kind, read_yaml, validate
from conan_lib.table import TABLE

StageName = Literal[*TABLE]


class StepParams(Section):
    """One thing to compute: stages of a parameter file, or the cells of a grid."""

    run: str | None = None
    """Parameter file, relative to the job file."""
    stages: tuple[StageName, ...] = ()
    """What the run is to reach, most wanted first; what these need comes with them."""
    grid: str | None = None
    """Grid file, relative to the job file."""
    seeds: tuple[int, ...] | None = Field(None, min_length=1)
    """Of a grid: in the place of its own. Of a run: once with each; its report looks for 0 to 9. None: as the file says."""
    seeded: Literal["all", "contrastive"] = "all"
    """Where a run's seeds go: into all that trains, or into weak and supervised alone, which share one language model."""

    @model_validator(mode="after")
    def _run_or_grid(self):
        if (self.run is None) == (self.grid is None):
            raise ValueError("give either run or grid")
        if bool(self.stages) != bool(self.run):
            raise ValueError("stages belong to run, and run needs them")
        if self.seeds and (len(set(self.seeds)) < len(self.seeds) or not 0 <= min(self.seeds) <= max(self.seeds) < 2**32):
            raise ValueError("seeds: give different numbers from 0 up, below 2**32")
        return self


class JobParams(Section):
    """What a job file says."""

    name: str = Field(pattern=r"^[a-z0-9_-]+$")
    """Names the logs: artefacts/jobs/<name>."""
    given: tuple[StageName, ...] = ("corpus", "sets", "heldout", "tokenizer", "teacher")
    """Stages that were computed elsewhere and carried here (conan-lib unpack); the job never computes them."""
    workers: int = Field(1, ge=1)
    """Stages at once, each in a process of its own. They share the GPU and its memory; scoring is mostly CPU work."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of each worker; without a GPU, one each and as many workers as cores do most. None: the parameter files'."""
    grace: float = Field(20, ge=0)
    """Seconds after the deadline for a step and a checkpoint to end; what still works then is killed, and resumed by the next call."""
    steps: tuple[StepParams, ...] = Field(min_length=1)
    """By priority: a worker takes the first stage whose inputs are there."""


def load_job(path: str | Path) -> JobParams:
    """Read a job file.

    Raises:
        UserError: the file is missing, is not YAML, or a key is unknown, mistyped or impossible; one line names each.
    """
    raw = read_yaml(Path(path), "job file")
    check_kind(raw, "job", str(path))
    return validate(raw, str(path), JobParams)
