"""The graph of stages: which sections of the parameters each one hashes, and which stages it is made from.

data -> tokenizer -> pretrain -> sft -> weak -> mine -> supervised -> evaluate, probes
  \\-> teacher ------------------------^         (again without CLR) -> mix
  \\-> peers                                                      \\-> efficiency, mkqa, score
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from conan_lib.artefacts import Artefact
from conan_lib.errors import UserError
from conan_lib.params import Params, Runtime, load_params, without_clr


@dataclass(frozen=True)
class Spec:
    """One node. `version` rises when the meaning of the stage's code changes, so that old artefacts are not taken for new ones."""

    version: int
    sections: tuple[str, ...]
    inputs: tuple[str, ...] = ()


GRAPH: dict[str, Spec] = {
    "data": Spec(1, ("data",)),
    "tokenizer": Spec(1, ("tokenizer",), ("data",)),
    "pretrain": Spec(1, ("backbone", "pretrain"), ("data", "tokenizer")),
    "sft": Spec(1, ("sft",), ("data", "pretrain")),
    "teacher": Spec(1, ("teacher",), ("data",)),
    "weak": Spec(1, ("weak",), ("data", "sft", "teacher")),
    "mine": Spec(1, ("mine",), ("data", "weak")),
    "supervised": Spec(1, ("supervised",), ("data", "weak", "mine")),
    "supervised_no_clr": Spec(1, ("supervised",), ("data", "weak", "mine")),
    "peers": Spec(1, ("tasks", "peers"), ("data",)),
    "evaluate": Spec(2, ("tasks", "evaluation"), ("data", "pretrain", "sft", "weak", "supervised")),
    "efficiency": Spec(2, ("tasks", "efficiency"), ("data", "weak", "supervised")),
    "mkqa": Spec(1, ("tasks", "mkqa"), ("data", "supervised")),
    "probes": Spec(1, ("probes",), ("data", "pretrain", "sft", "weak", "supervised")),
    "mix": Spec(2, ("mixing",), ("data", "supervised", "supervised_no_clr")),
}
BESIDE: dict[str, Spec] = {
    "score": Spec(1, ("tasks",), ("data", "supervised")),
    "outside": Spec(1, ("tasks", "outside"), ("data", "pretrain", "sft", "weak", "supervised")),
}
"""Nodes that no notebook runs: a grid scores the last checkpoint of each of its cells alone; sets from outside need an archive that is not
there everywhere."""
SPECS = GRAPH | BESIDE
VARIANTS = {"supervised_no_clr": "supervised"}
"""Nodes that are another node's stage under changed parameters: they share its folder and its code."""


@dataclass(frozen=True)
class Stage:
    """One stage of one run: its artefact, and the sections of parameters that it may read."""

    name: str
    params: Params
    artefact: Artefact
    inputs: dict[str, "Stage"] = field(default_factory=dict)

    @cached_property
    def sections(self) -> tuple[str, ...]:
        return SPECS[self.name].sections

    def __repr__(self) -> str:
        return f"{self.name} {self.key}: {self.status}"

    def __getattr__(self, name: str):
        """`stage.pretrain` is that section, if this stage hashes it: a stage cannot read what its key does not hold."""
        if name.startswith("__"):  # copy and pickle ask for their hooks before there is anything in the stage
            raise AttributeError(name)
        if name in SPECS[self.__dict__["name"]].sections:
            return getattr(self.__dict__["params"], name)
        raise AttributeError(f"stage {self.__dict__['name']} has no section or attribute {name!r}")

    @property
    def runtime(self) -> Runtime:
        return self.params.runtime

    @property
    def path(self) -> Path:
        return self.artefact.path

    @property
    def key(self) -> str:
        return self.artefact.key

    @property
    def status(self) -> str:
        return self.artefact.status

    @property
    def finished(self) -> bool:
        return self.artefact.finished

    @property
    def results(self) -> dict:
        return self.artefact.results

    def needs(self, name: str) -> Path:
        """The folder of a finished input; see Artefact.needs."""
        return self.artefact.needs(name)

    def work(self, together: bool = False):
        """Hold the artefact for writing; see Artefact.work."""
        return self.artefact.work(together)


def project_root() -> Path:
    """The folder that relative paths in Runtime refer to: the nearest one above the working directory with a pyproject.toml, else the
    working directory."""
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()), here)


def below_root(path: Path) -> str:
    """A path as files and messages show it: relative to the project root where it lies below, without this machine's folders."""
    root = project_root()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def open_stage(name: str, params: Params | str | Path) -> Stage:
    """Open a stage of a run; nothing is computed or written.

    Args:
        name: a node of GRAPH or BESIDE.
        params: the tree, or the path of its file (also looked for below the project root).

    Raises:
        UserError: no such stage, or a mistake in the parameters.
    """
    if name not in SPECS:
        raise UserError(f"no stage {name}: choose one of {', '.join(SPECS)}")
    if not isinstance(params, (Params, str, Path)):
        raise UserError(f"params_file: {params!r} is no file name: give the path of a parameter file")
    if not isinstance(params, Params):
        path = Path(params)
        params = load_params(path if path.is_file() or path.is_absolute() else project_root() / path)
    return _open(name, params)


def _open(name: str, params: Params) -> Stage:
    spec = SPECS[name]
    inputs = {other: _open(other, params) for other in spec.inputs}
    own = without_clr(params) if name == "supervised_no_clr" else params
    artefact = Artefact(
        stage=VARIANTS.get(name, name),
        version=spec.version,
        parameters={section: getattr(own, section).model_dump(mode="json", exclude_none=True) for section in spec.sections},
        inputs={other: stage.artefact for other, stage in inputs.items()},
        root=project_root() / params.runtime.artefacts,
    )
    return Stage(name, own, artefact, inputs)
