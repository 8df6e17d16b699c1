"""Content-addressed results: key -> folder; open, resume, commit, load.

A stage's key is the hash of its name, its version, its own parameters and the keys of its inputs. The folder artefacts/<stage>/<key>/ is

    new        it does not exist, or holds nothing but a lock
    partial    it exists without manifest.json: resume from its checkpoint
    finished   manifest.json exists; it is written last, atomically, so its existence means done. One that is damaged, or another
               folder's, is an error: no state of a folder may be guessed

The key does not hash source text, device, worker count or save interval; the manifest records them.
"""

import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import resource
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from conan_lib.errors import UserError
from conan_lib.table import TABLE

MANIFEST = "manifest.json"
SHAPE = {"stage": str, "key": str, "results": dict, "seconds": (int, float), "finished_at": str, "environment": dict}
"""What every manifest holds beside the rest of the identity."""
RECORDED_PACKAGES = ("torch", "transformers", "sentence-transformers", "tokenizers", "accelerate", "datasets", "mteb", "numpy")


IDENTITY = ("stage", "version", "parameters", "inputs")


def key_of(identity: dict) -> str:
    """16 hexadecimal digits that name a content: the hash of its stage, version, parameters and inputs, and of nothing else."""
    text = json.dumps({name: identity[name] for name in IDENTITY}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(path: Path) -> str:
    """16 hexadecimal digits for what a file or folder of a user holds: names and bytes; of a file above 256 MiB its size and a hundredth of
    its bytes. `absent` where there is none."""
    found = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path] * path.is_file()
    if not found:
        return "absent"
    return _fingerprint(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in found))


@lru_cache(maxsize=256)
def _fingerprint(found: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, size, _ in found:
        digest.update(f"{path.name} {size} ".encode())
        part = 1 << 20
        step, part = (part, part) if size <= 256 * part else (size // 100, size // 10_000)
        with open(path, "rb") as file:
            for start in range(0, size, step):
                file.seek(start)
                digest.update(file.read(part))
    return digest.hexdigest()[:16]


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
            UserError: the input has not finished.
        """
        if not (artefact := self.inputs[name]).finished:
            raise UserError(f"stage {self.stage} needs {name} ({artefact.key}), which {artefact.undone}")
        return artefact.path

    @contextmanager
    def work(self, together: bool = False):
        """Hold the folder for writing; yields a Work whose `commit` ends it.

        A second process that wants the same artefact waits, then finds it finished (check `finished` again inside). Time spent in earlier
        attempts that ended in order (an exception, Ctrl-C, the deadline) is added up; that of one killed by SIGKILL is lost.

        Args:
            together: the processes of one launch (RANK in the environment) make it together. The one of rank 0 holds the folder; the
                others do not wait, their Work does not `lead`, and they write nothing.

        Raises:
            UserError: an input has not finished.
        """
        for name in self.inputs:
            self.needs(name)
        if together and not leads():
            yield Work(self, leads=False)
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "w") as lock:
            _lock(lock)
            work = Work(self)
            try:
                yield work
            except UserError:
                work.forget()
                raise
            finally:
                work.keep_clock()


class Work:
    """The right to write one artefact. Obtained from `Artefact.work`."""

    def __init__(self, artefact: Artefact, leads: bool = True):
        self.artefact, self.leads = artefact, leads
        self.path = artefact.path
        self._clock = self.path / "seconds.json"
        self._before = _number(self._clock)
        self._start = time.monotonic()
        if leads and not artefact.finished:
            write_json(self.path / "identity.json", artefact.identity)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of work, earlier attempts that ended in order included."""
        return self._before + time.monotonic() - self._start

    def forget(self) -> None:
        """Leave no trace of an attempt that has written nothing: a mistake is not work that began."""
        if {path.name for path in self.path.iterdir()} <= {".lock", "identity.json", self._clock.name}:
            (self.path / "identity.json").unlink(missing_ok=True)
            self._clock.unlink(missing_ok=True)

    def keep_clock(self):
        """Remember the time spent, should this attempt not be the last."""
        if not self.artefact.finished and (self.path / "identity.json").is_file():
            write_json(self._clock, round(self.seconds, 3))

    def commit(self, results: dict) -> None:
        """Write the manifest: the last act, and what makes the artefact finished."""
        manifest = {
            "key": self.artefact.key,
            **self.artefact.identity,
            "results": results,
            "seconds": round(self.seconds, 2),
            "peak_memory_mb": peak_memory_mb(),
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "environment": environment(),
        }
        write_json(self.path / MANIFEST, manifest)
        self._clock.unlink(missing_ok=True)


def peak_memory_mb() -> float:
    """The most resident memory (MB) that this process has held so far: stages of one process share it, helper processes are not in."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux; its getrusage starts from the peak of the parent process
        kibibytes = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(kibibytes * 1024 / 1e6, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)


NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def _lock(file: IO, wait: bool = True) -> None:
    """Lock an open file until it is closed: flock, and where a file system has none (some NFS) a record lock.

    Raises:
        BlockingIOError: another process holds it, and `wait` is off.
        UserError: the file system has no locks at all.
    """
    how = fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)
    for lock in (fcntl.flock, fcntl.lockf):
        try:
            return lock(file, how)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    raise UserError(
        f"{file.name}: this file system has no locks, so two runs could write one artefact: mount it with locks (Lustre: -o flock), "
        "or name a folder on another one in runtime.artefacts"
    )


@contextmanager
def held(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file; yields whether it is ours. A killed process lets go of it."""
    try:
        file = open(path, "w")  # noqa: SIM115 - only opening may fail so, not what is done while it is held
    except FileNotFoundError:  # another process has finished and tidied up
        yield False
        return
    with file as lock:
        try:
            _lock(lock, wait)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to write, which takes the place of `path` when the block has ended well: a reader sees the old file or the new one, never
    half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # no pattern such as *.json finds what a killed process left
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    with replacing(path) as new, open(new, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)


def read_json(path: Path) -> Any:
    """Read a JSON file of an artefact.

    Raises:
        UserError: it is missing or damaged; the line names it and what to do.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing: {again(path)}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: damaged: {again(path)}") from None


def again(path: Path) -> str:
    """What to do about a missing or damaged file: a manifest beside it would still say that its stage has finished."""
    home = next((folder for folder in path.parents if re.fullmatch("[0-9a-f]{16}", folder.name)), None)
    return f"remove {home} and run its stage again" if home else "remove it and run what writes it again"


def first_damaged(folder: Path) -> Path | None:
    """The first file of JSON, safetensors, torch or numpy in a folder that is not whole; None where all of them are."""
    return next((path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".") and _damaged(path)), None)


def _damaged(path: Path) -> bool:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as tensors:  # its header says how long the file must be
                return not tensors.keys()
        except SafetensorError:
            return True
    if path.suffix in (".pt", ".pth", ".npz"):
        return not zipfile.is_zipfile(path)  # its list of members stands at the end
    if path.suffix == ".json":
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            return True
    return False


def _number(path: Path) -> float:
    """The number in a JSON file; 0 where there is none."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return 0.0


def environment() -> dict:
    """Where a number comes from: machine, versions, git revision."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": _device(),
        "packages": {name: _version(name) for name in RECORDED_PACKAGES},
        "revision": _revision(),
    }


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The git revision of the source, with + where tracked files differ from it. Outside a checkout what CONAN_REVISION says, or None."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no", "--", str(here)) else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("CONAN_REVISION")
