"""A run as the report sees it: every stage opened, nothing computed; results and result files of what has finished."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from conan_lib.errors import UserError
from conan_lib.files import read_json
from conan_lib.findings.ablation import Ablation
from conan_lib.grids import Grid, open_grid
from conan_lib.model.start import backbone_of
from conan_lib.params import Params, load_params, with_seed
from conan_lib.params.load import SEEDED, on_reviews, without_mrl
from conan_lib.stages import Stage, below_root, left_out, open_stage, project_root, takes_part
from conan_lib.table import RUN, START, TABLE

STATUS = {"new": "has not been computed yet", "partial": "is partial", "finished": "is finished"}
"""Status of a stage -> what a report says of it."""
SCORES = ("evaluate", "peers", "score_plain")
"""Stages that score whole models; the last one only where somebody asked for it."""
SEEDS = range(10)
"""Seeds with which the same run is looked for."""


@dataclass(frozen=True)
class Run:
    """All stages of one parameter file."""

    params: Params
    params_file: str
    stages: dict[str, Stage]

    @classmethod
    def open(cls, params_file: str | Path) -> "Run":
        """Open every stage of a whole run.

        Raises:
            UserError: a mistake in the parameter file.
        """
        path, root = Path(params_file), project_root()
        params = load_params(path if path.is_file() or path.is_absolute() else root / path)
        return cls.of(params, below_root(path))

    @classmethod
    def of(cls, params: Params, params_file: str) -> "Run":
        """Open every stage of a whole run of a tree."""
        return cls(params, params_file, {name: open_stage(name, params) for name in RUN if takes_part(name, params)})

    def with_seeds(self, stage: str) -> list["Run"]:
        """This run and the same with other seeds, those in which a stage has finished; this one first, if it is one of them.

        The seeds are those of all that trains, or, where more such runs have finished, of the contrastive stages alone."""
        found = [[run for run in (self, *others) if run.finished(stage)] for others in self._seeded]
        return max(found, key=len)

    def evidence(self) -> list[Stage]:
        """The finished stages that a report of this run reads: its own, its other seeds', all these without MRL, and on reviews."""
        trees = [run.params for run in (self, *(run for others in self._seeded for run in others))]
        trees += [without_mrl(tree) for tree in trees] + [on_reviews(tree) for tree in trees]
        opened = (open_stage(name, tree) for tree in trees for name in TABLE if takes_part(name, tree))
        return list({stage.path: stage for stage in opened if stage.finished}.values())

    @cached_property
    def backbone(self) -> PreTrainedConfig:
        """The backbone's sizes, from scratch or the start's."""
        return backbone_of(self.params)[0]

    @cached_property
    def untrained(self) -> tuple[str, str]:
        """The checkpoint that everything is measured from, by name and in words."""
        return ("random", "random weights") if self.params.model is None else (START, "the start")

    def finished(self, *names: str) -> bool:
        return all((stage := self.stage(name)) is not None and stage.finished for name in names)

    def stage(self, name: str) -> Stage | None:
        """A stage of this run, or one that a run leaves to be asked for (`score_plain`); None where these parameters leave it out."""
        return self.stages.get(name) or (None if name in RUN else open_stage(name, self.params))

    def results(self, name: str) -> dict[str, Any]:
        """The committed numbers of a stage; empty where it has not finished."""
        return self.stage(name).results if self.finished(name) else {}

    def file(self, name: str, file: str) -> Any | None:
        """A JSON result file of a finished stage; None where either is missing.

        Raises:
            UserError: the file is damaged.
        """
        if not self.finished(name):
            return None
        path = self.stage(name).path / file
        return read_json(path) if path.is_file() else None

    def key(self, name: str) -> str:
        """What a number is cited by: the artefact's folder below artefacts/, for example evaluate/0123456789abcdef."""
        artefact = (self.stages.get(name) or open_stage(name, self.params)).artefact
        return f"{artefact.stage}/{artefact.key}"

    def unfinished(self, *names: str) -> str:
        """Why the numbers of these stages are missing, or an empty string."""
        return "; ".join(dict.fromkeys(map(self._unfinished, (name for name in names if not self.finished(name)))))

    def _unfinished(self, name: str) -> str:
        if name not in self.stages:
            return f"not part of this run: {self.left_out[name]}"
        return f"stage {name} {STATUS[self.stages[name].status]} ({self.key(name)})"

    @cached_property
    def left_out(self) -> dict[str, str]:
        """The stages that are no part of it, each with the reason."""
        return left_out(self.params)

    @cached_property
    def ablations(self) -> dict[str, Ablation]:
        """Grids of params/grids that name this tier, finished or not."""
        return {
            grid.params.name: Ablation(grid)
            for grid in self._grids.values()
            if isinstance(grid, Grid) and grid.params.tier == self.params.tier
        }

    @cached_property
    def _seeded(self) -> list[list["Run"]]:
        """The same run with other seeds in all that trains, and in the contrastive stages; finished or not."""
        trees = ([with_seed(self.params, seed, where) for seed in SEEDS] for where in SEEDED)
        return [[Run.of(tree, self.params_file) for tree in some if tree != self.params] for some in trees]

    @property
    def broken_grids(self) -> dict[str, str]:
        """Grid file -> the mistake in it."""
        return {file: grid for file, grid in self._grids.items() if isinstance(grid, str)}

    @cached_property
    def _grids(self) -> dict[str, Grid | str]:
        root, found = project_root(), {}
        for path in sorted((root / "params" / "grids").rglob("*.yaml")):
            file = below_root(path)
            try:
                found[file] = open_grid(path)
            except UserError as error:
                found[file] = str(error).replace(f"{root}/", "").removeprefix(f"{file}: ")
        return found

    @cached_property
    def manifests(self) -> dict[str, dict]:
        """Manifest of each finished stage, in the order of the table."""
        return {name: stage.artefact.manifest for name, stage in self.stages.items() if stage.finished}

    @cached_property
    def scores(self) -> list[dict]:
        """Rows of scores.json of our checkpoints, of the peers and of plain training, each with its artefact `key`."""
        return [row | {"key": self.key(name)} for name in SCORES for row in self.file(name, "scores.json") or []]

    @property
    def pivot(self) -> str:
        return self.params.data.languages[0]
