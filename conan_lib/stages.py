"""A stage of a run: its row of the table, its parameters, its artefact; how it is opened, and the one way in which it is computed."""

import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, wraps
from importlib import import_module
from pathlib import Path

from conan_lib.artefacts import ROWS, Artefact, leads
from conan_lib.errors import UserError
from conan_lib.files import fingerprint
from conan_lib.params import Params, Runtime, load_params, without_clr
from conan_lib.params.evaluation import PROBED
from conan_lib.params.sets import EMBEDDED
from conan_lib.table import START, TABLE


@dataclass(frozen=True)
class Stage:
    """One stage of one run: its artefact, and the sections of parameters that it may read."""

    name: str
    params: Params
    artefact: Artefact
    inputs: dict[str, "Stage"] = field(default_factory=dict)

    @cached_property
    def sections(self) -> tuple[str, ...]:
        return TABLE[self.name].sections

    def __repr__(self) -> str:
        return f"{self.name} {self.key}: {self.status}"

    def __getattr__(self, name: str):
        """`stage.pretrain` is that section, if this stage hashes it: a stage cannot read what its key does not hold."""
        if name.startswith("__"):  # copy and pickle ask for their hooks before there is anything in the stage
            raise AttributeError(name)
        if name in TABLE[self.__dict__["name"]].sections:
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

    @property
    def lineage(self) -> dict[str, "Stage"]:
        """All that it is made from, in an order that can run, and itself."""
        found: dict[str, Stage] = {}
        for other in self.inputs.values():
            found |= {name: stage for name, stage in other.lineage.items() if name not in found}
        return found | {self.name: self}

    @property
    def leads(self) -> bool:
        """Whether this process writes the artefact; see artefacts.leads."""
        return leads()

    @property
    def device(self) -> str:
        """cpu or cuda: what runtime.device asks for, and where that is auto, what there is. Only torch's stages ask."""
        import torch

        return self.runtime.device if self.runtime.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"

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


def located(name: str) -> Path:
    """A file or folder that a parameter file names: relative names start at the project root."""
    return project_root() / Path(name).expanduser()


def below_root(path: Path) -> str:
    """A path as files and messages show it: relative to the project root where it lies below, without this machine's folders."""
    root = project_root()
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def resolve(path: str | Path) -> Path:
    """A file's path, which may be given relative to the project root.

    Raises:
        UserError: it is in a checkout and the working directory in none: results would be looked for and written in the wrong place.
    """
    path, root = Path(path), project_root()
    if path.is_file() and not (root / "notebooks").is_dir():
        homes = (folder for folder in path.resolve().parents if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir())
        if (home := next(homes, None)) is not None:
            raise UserError(f"{path}: its results are in {home}: cd there first, and then run the command")
    return path if path.is_file() or path.is_absolute() or not (root / path).is_file() else root / path


def open_stage(name: str, params: Params | str | Path) -> Stage:
    """Open a stage of a run; nothing is computed or written.

    Args:
        name: a stage of the table.
        params: the tree, or the path of its file (also looked for below the project root).

    Raises:
        UserError: no such stage, or a mistake in the parameters.
    """
    if name not in TABLE:
        raise UserError(f"no stage {name}: choose one of {', '.join(TABLE)}")
    if not isinstance(params, (Params, str, Path)):
        raise UserError(f"params_file: {params!r} is no file name: give the path of a parameter file")
    if not isinstance(params, Params):
        params = load_params(resolve(params))
    return _open(name, params)


def left_out(params: Params) -> dict[str, str]:
    """The stages of the table that are no part of a run of these parameters, each with the reason: the one place that decides it."""
    found = {} if params.model is not None else {START: "the run begins from scratch"}
    data, mix = params.data, params.supervised.mix
    why = ""
    if not mix.get("clr"):
        why = "supervised.mix has no clr, so there is nothing to compare"
    elif not any(share for task, share in mix.items() if task != "clr"):
        why = "supervised.mix has clr alone, so nothing trains without it"
    elif params.supervised.balance and not any(share for task, share in mix.items() if task not in ("clr", "sts")):
        why = "supervised.mix has clr and sts alone, and without clr nothing is left that sts balances"
    elif not (data.scripture or data.aligned_rows or params.mixing.texts == "multiemo"):
        why = "the mixing of languages needs aligned texts in two languages: scripture, or held-out rows of a clr set"
    if why:
        found |= {"supervised_no_clr": why, "mix": why}
    if params.mkqa.source == "embedded" and not ({EMBEDDED} <= data.embedded or {"trivia", "wiki"} <= data.embedded):
        found["mkqa"] = "its embedded questions and passages are no part of data.sets: name others by mkqa.source"
    if not set(data.languages) & set(PROBED):
        found["probes"] = f"there are sentences in {', '.join(PROBED)} alone"
    return found


def takes_part(name: str, params: Params) -> bool:
    """Whether a run of these parameters has that stage."""
    return name not in left_out(params)


def _open(name: str, params: Params, left: dict[str, str] | None = None, opened: dict[str, Stage] | None = None) -> Stage:
    """`left` and `opened`: what this call knows by now; a stage is an input of many, and each is opened once."""
    left, opened = left_out(params) if left is None else left, {} if opened is None else opened
    if name in opened:
        return opened[name]
    spec = TABLE[name]
    inputs = {other: _open(other, params, left, opened) for other in spec.inputs if other not in left}
    own = without_clr(params) if name == "supervised_no_clr" and name not in left else params
    parameters = {section: found.keyed() for section in spec.sections if (found := getattr(own, section)) is not None}
    if "data" in spec.sections and (files := params.data.files):
        parameters["files"] = {file: fingerprint(located(file)) for file in files}
    if name == "sets" and (shares := params.data.shares):
        parameters["shares"] = shares
    artefact = Artefact(
        stage=spec.like or name,
        version=spec.version,
        parameters=parameters,
        inputs={other: stage.artefact for other, stage in inputs.items()},
        root=project_root() / params.runtime.artefacts,
    )
    opened[name] = Stage(name, own, artefact, inputs)
    return opened[name]


Function = Callable[[Stage], dict | None]


def computes(function: Function | None = None, *, together: bool = False, check: Callable[[Stage], None] | None = None):
    """Make a function from a stage to its results the call that computes it.

    The call returns the stage, finished. It does nothing where the stage has finished; else it holds the artefact, sets threads and checks
    the device, commits the results that the function returns, and removes training's checkpoints and rows. A function that raises UserError
    before it has written a file leaves no trace.

    Args:
        together: the processes of one launch compute it together; what the function returns counts in the first (`stage.leads`) alone.
            Otherwise the first computes it, and the others wait.
        check: called first, for a finished stage too; that of `start` before every other stage.

    Raises:
        UserError: an input has not finished, no such device, or what the function raises.
        RunError: the first process of a launch has not finished the stage.
    """
    if function is None:
        return lambda decorated: computes(decorated, together=together, check=check)

    @wraps(function)
    def compute_stage(stage: Stage) -> Stage:
        if check is not None:
            check(stage)
        if stage.finished:
            return stage
        if stage.params.model is not None and stage.name != START and (start := _open(START, stage.params)).finished:
            compute(start)  # refuses where its source holds other weights by now
        with stage.work(together) as work:
            if not stage.finished:  # another process may have finished it while this one waited
                _prepare(stage.runtime)
                results = _saved(stage, function)
                if stage.leads:
                    work.commit(results)
        if stage.leads:
            for name in ("checkpoints", ROWS):
                shutil.rmtree(stage.path / name, ignore_errors=True)
        return stage

    return compute_stage


def _saved(stage: Stage, function: Function) -> dict | None:
    """What the function returns; torch.save says of a full disk only that its file ends too early."""
    try:
        return function(stage)
    except RuntimeError as error:
        if not re.search(r"unexpected pos \d+ vs \d+|iostream error", str(error)):
            raise
        raise UserError(f"{stage.path}: a checkpoint could not be written: is there space left? make room and run it again") from None


def _prepare(runtime: Runtime) -> None:
    """Set torch's CPU threads and check the device, where torch is what computes.

    Raises:
        UserError: runtime.device is cuda and there is none.
    """
    if (torch := sys.modules.get("torch")) is None:
        return
    torch.set_num_threads(runtime.threads)
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise UserError("runtime.device: cuda, but torch finds no GPU: use cpu or auto")


def compute(stage: Stage) -> Stage:
    """Compute a stage by its row's function."""
    module, _, function = TABLE[stage.name].function.partition(":")
    return getattr(import_module(module), function)(stage)
