"""Content-addressed results: key -> folder; open, resume, commit, load.

A stage's key is the hash of its name, its version, its own parameters and the keys of its inputs. The folder artefacts/<stage>/<key>/ is

    new        it does not exist, or holds nothing but a lock
    partial    it exists without manifest.json: resume from its checkpoint
    finished   manifest.json exists; it is written last, atomically, so its existence means done. One that is damaged, or another
               folder's, is an error: no state of a folder may be guessed

The key does not hash source text, device, worker count or save interval; the manifest records them. It also records every file with its
size and hash, and a stage that is made from another one compares them first.
"""

import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from conan_lib.environment import environment, peak_memory_mb
from conan_lib.errors import RunError, UserError
from conan_lib.files import again, is_held, lock, number_in, read_json, say, sha256, write_json
from conan_lib.table import TABLE

MANIFEST = "manifest.json"
SHAPE = {"stage": str, "key": str, "results": dict, "seconds": (int, float), "finished_at": str, "environment": dict}
"""What every manifest holds beside the rest of the identity."""


IDENTITY = ("stage", "version", "parameters", "inputs")
ROWS = "rows"
"""The folder of tables that are read by number while a stage is computed."""
PASSING = (MANIFEST, "seconds.json", "checkpoints", "tensorboard", ROWS)
"""What the manifest does not list: files of an attempt, and what else may go or grow. Hidden files neither."""
POLL, PATIENCE = 2.0, 600.0
"""Seconds between two looks of a process that waits for the first of its launch, and for how long it waits while nobody works."""


def key_of(identity: dict) -> str:
    """16 hexadecimal digits that name a content: the hash of its stage, version, parameters and inputs, and of nothing else."""
    text = json.dumps({name: identity[name] for name in IDENTITY}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def listing(folder: Path) -> dict[str, list]:
    """File -> [bytes, sha256], of all that a manifest lists."""
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    listed = (name for name in names if name.parts[0] not in PASSING and not any(part.startswith(".") for part in name.parts))
    return {name.as_posix(): [(folder / name).stat().st_size, sha256(folder / name)] for name in listed}


def leads() -> bool:
    """Whether this process writes: all do but those of a launch that are not its first."""
    return int(os.environ.get("RANK", 0)) == 0


@dataclass(frozen=True)
class Artefact:
    """One stage's result. `parameters` are the sections that the key hashes; `inputs` are the artefacts that it is made from."""

    stage: str
    version: int
    parameters: dict[str, Any]
    inputs: dict[str, "Artefact"] = field(default_factory=dict)
    root: Path = Path("artefacts")

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that name this content."""
        return key_of(self.identity)

    @property
    def identity(self) -> dict:
        """What the key hashes."""
        return {
            "stage": self.stage,
            "version": self.version,
            "parameters": self.parameters,
            "inputs": {name: artefact.key for name, artefact in self.inputs.items()},
        }

    @property
    def path(self) -> Path:
        """The folder, whether it exists or not."""
        return self.root / self.stage / self.key

    @property
    def status(self) -> str:
        """new, partial or finished.

        Raises:
            UserError: the manifest is damaged or of another folder.
        """
        if self._manifest is not None:
            return "finished"
        return "partial" if self.path.is_dir() and any(p.name != ".lock" for p in self.path.iterdir()) else "new"

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    @property
    def manifest(self) -> dict:
        """identity, results, seconds, device, packages and revision of a finished artefact.

        Raises:
            UserError: the stage has not finished, or its manifest is damaged or of another folder.
        """
        if (manifest := self._manifest) is None:
            raise UserError(f"stage {self.stage} ({self.key}) {self.undone}")
        return manifest

    @property
    def _manifest(self) -> dict | None:
        path = self.path / MANIFEST
        if not path.is_file():
            return None
        manifest = read_json(path)
        if not isinstance(manifest, dict) or any(not isinstance(manifest.get(name), kind) for name, kind in SHAPE.items()):
            raise UserError(f"{path}: damaged: {again(path)}")
        if (manifest["stage"], manifest["key"]) != (self.stage, self.key):
            raise UserError(f"{path}: the manifest belongs to {manifest['stage']}/{manifest['key']}: {again(path)}")
        return manifest

    def verify(self, largest: float = float("inf"), unread: str = "", missing: tuple[str, ...] = ()) -> None:
        """Compare a finished artefact with its manifest; where it lists no files, as older ones, there is nothing to compare.

        Args:
            largest: bytes up to which a file is hashed; of larger ones the size counts.
            unread: the suffix of files of which the size counts, too.
            missing: ends of names of files that may be missing.

        Raises:
            UserError: a file is missing or damaged; the line names it and what to do.
        """
        for name, (size, digest) in self.manifest.get("files", {}).items():
            path = self.path / name
            if not path.is_file():
                if name.endswith(missing):
                    continue
                raise UserError(f"{path}: missing: {again(path)}")
            read = size <= largest and path.suffix != unread
            if path.stat().st_size != size or (read and sha256(path) != digest):
                raise UserError(f"{path}: damaged: {again(path)}")

    @property
    def results(self) -> dict:
        """The numbers that the stage committed."""
        return self.manifest["results"]

    @property
    def undone(self) -> str:
        """What a line says of an artefact that has not finished, and how to make it."""
        spec = TABLE.get(self.stage)
        how = f"open notebooks/{spec.notebook}.ipynb, or run `conan-lib run ... --to {self.stage}`" if spec and spec.notebook else (
            f"run `conan-lib train {self.stage} ...`")  # fmt: skip
        return f"{'is only partly computed' if self.status == 'partial' else 'has not been computed yet'}: {how}"

    def needs(self, name: str) -> Path:
        """The folder of a finished input.

        Raises:
            UserError: the input has not finished, or one of its files is missing or damaged.
        """
        if not (artefact := self.inputs[name]).finished:
            raise UserError(f"stage {self.stage} needs {name} ({artefact.key}), which {artefact.undone}")
        artefact.verify()
        return artefact.path

    @contextmanager
    def work(self, together: bool = False):
        """Hold the folder for writing; yields a Work whose `commit` ends it.

        A second process that wants the same artefact says so and waits, then finds it finished (check `finished` again inside). Time
        spent in earlier attempts that ended in order (an exception, Ctrl-C, the deadline) is added up; that of one killed by SIGKILL is
        lost.

        Args:
            together: the processes of one launch (RANK in the environment) make it together, and those that are not its first do not wait.
                Otherwise they wait until the first has finished it. In both cases their Work does not `lead`, and they write nothing.

        Raises:
            UserError: an input has not finished, or one of its files is missing or damaged.
            RunError: the first process of the launch has not finished it, and nobody works at it.
        """
        for name in self.inputs:
            self.needs(name)
        if not leads():
            if not together:
                self._await_first()
            yield Work(self, leads=False)
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "w") as file:
            lock(file, what=f"stage {self.stage} {self.key}")
            work = Work(self)
            try:
                yield work
            except UserError:
                work.forget()
                raise
            finally:
                work.keep_clock()

    def _await_first(self) -> None:
        """Wait until the first process of this launch has finished it. Where that one fails, a launcher ends this one, too."""
        if not self.finished:
            say(f"stage {self.stage} {self.key}: the first process of this launch makes it; this one waits")
        seen = time.monotonic()
        while not self.finished:
            if is_held(self.path / ".lock"):
                seen = time.monotonic()
            elif (idle := time.monotonic() - seen) >= PATIENCE:
                raise RunError(
                    f"stage {self.stage} {self.key}: not finished, and nobody has worked at it for {idle:.0f} s: the first process of this "
                    "launch says why, or its artefacts are in another folder: name one that all machines share in runtime.artefacts"
                )
            time.sleep(POLL)


class Work:
    """The right to write one artefact. Obtained from `Artefact.work`."""

    def __init__(self, artefact: Artefact, leads: bool = True):
        self.artefact, self.leads = artefact, leads
        self.path = artefact.path
        self._clock = self.path / "seconds.json"
        self._before = number_in(self._clock)
        self._start = time.monotonic()
        if leads and not artefact.finished:
            write_json(self.path / "identity.json", artefact.identity)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of work, earlier attempts that ended in order included."""
        return self._before + time.monotonic() - self._start

    def forget(self) -> None:
        """Leave no trace of an attempt that has written nothing: a mistake is not work that began."""
        if {path.name for path in self.path.iterdir()} <= {".lock", "identity.json", self._clock.name, ROWS}:
            shutil.rmtree(self.path / ROWS, ignore_errors=True)
            (self.path / "identity.json").unlink(missing_ok=True)
            self._clock.unlink(missing_ok=True)

    def keep_clock(self):
        """Remember the time spent, should this attempt not be the last."""
        if not self.artefact.finished and (self.path / "identity.json").is_file():
            write_json(self._clock, round(self.seconds, 3))

    def commit(self, results: dict) -> None:
        """Write the manifest: the last act, and what makes the artefact finished.

        Raises:
            UserError: the folder was taken away in between, and what made files made it anew, without those before.
        """
        if not (self.path / "identity.json").is_file():
            raise UserError(f"{self.path}: vanished while its stage was computed: run it again, and see what removes it")
        manifest = {
            "key": self.artefact.key,
            **self.artefact.identity,
            "results": results,
            "seconds": round(self.seconds, 2),
            "files": listing(self.path),
            "peak_memory_mb": peak_memory_mb(),
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "environment": environment(),
        }
        write_json(self.path / MANIFEST, manifest)
        self._clock.unlink(missing_ok=True)
