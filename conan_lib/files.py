"""Files that are written whole or not at all, locked by one process at a time, and read with one line where they are damaged."""

import errno
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from conan_lib.errors import UserError

RATIO = 200
"""An archive holds at most so many times its own size; text that repeats itself shrinks to about a fiftieth."""
SAID = "conan-lib: "
"""How a line for the user begins."""
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def lock(file: IO, wait: bool = True, what: str | None = None) -> None:
    """Lock an open file until it is closed: flock, and where a file system has none (some NFS) a record lock. Who must wait says so.

    Args:
        what: is made under the lock, for that line; by default the file's folder.

    Raises:
        BlockingIOError: another process holds it, and `wait` is off.
        UserError: the file system has no locks at all.
    """
    try:
        _lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise
        what, holder, began = what or Path(file.name).parent, _holder(file), time.monotonic()
        other, stop = (f"process {holder} of this machine", f", kill {holder} the other") if holder else ("another process", "")
        say(f"{what}: {other} is making it; this one waits and then goes on (Ctrl-C ends this one{stop})")
        _lock(file, fcntl.LOCK_EX)
        say(f"{what}: free after {time.monotonic() - began:.0f} s; going on")


def _lock(file: IO, how: int) -> None:
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


def _holder(file: IO) -> str:
    """The process of this machine that holds a file's lock; empty where Linux does not know one."""
    try:
        known = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except OSError:
        return ""
    number = str(os.fstat(file.fileno()).st_ino)
    found = (row[4] for row in known if row[1] != "->" and len(row) == 8 and row[5].split(":")[-1] == number)
    return next((process for process in found if int(process) > 0), "")


def say(line: str) -> None:
    """Tell the user something that a run passes on from its kernels and workers, and does not keep for a log."""
    print(f"{SAID}{line}", file=sys.stderr, flush=True)


@contextmanager
def held(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file; yields whether it is ours. A killed process lets go of it."""
    try:
        file = open(path, "w")  # noqa: SIM115 - only opening may fail so, not what is done while it is held
    except FileNotFoundError:  # another process has finished and tidied up
        yield False
        return
    with file:
        try:
            lock(file, wait)
        except BlockingIOError:
            yield False
        else:
            yield True


def is_held(path: Path) -> bool:
    """Whether some process holds a lock file. Those who ask at one moment do not take each other for it."""
    try:
        with open(path, "r+") as file:
            _lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError) as error:
        return isinstance(error, BlockingIOError)
    return False


def check_output(path: Path, suffix: str = "", inputs: Iterable[Path] = ()) -> None:
    """See before any work that a file can be written at its end.

    Args:
        path: the file.
        suffix: how its name must end.
        inputs: files and folders that are read and must stay as they are.

    Raises:
        UserError: it is a folder, ends otherwise, would change an input, or its folder is a file or cannot be written.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder: name a file in it")
    if not path.name.endswith(suffix):
        raise UserError(f"{path}: the output is {suffix}: give it a name that ends so")
    if own := next((one for one in inputs if path.resolve().is_relative_to(one.resolve())), None):
        raise UserError(f"{path}: would change {own}, which is read: name another output")
    folder = next(above for above in path.absolute().parents if above.exists())
    if not folder.is_dir():
        raise UserError(f"{path}: {folder} is a file, where a folder is needed: name another output")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path}: {folder} may not be written: change its permissions, or name another output")


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


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder that is gone after the block, and after the next attempt where a process was killed. A second process that wants it
    waits."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{folder.name}.lock")
    with _own(path, folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            path.unlink(missing_ok=True)


def _own(path: Path, what: Path) -> IO:
    """A lock file that is held: not one that the process before has removed while this one waited for it."""
    while True:
        file = open(path, "w")  # noqa: SIM115 - the caller closes it
        lock(file, what=str(what))
        if path.is_file() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
            return file
        file.close()


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


def most_in(archive: Path) -> int:
    """Bytes that are read from an archive, at most: what holds more was made to fill memory or disk."""
    return max(2**20, RATIO * archive.stat().st_size)


def unpacked(stream: IO[bytes], archive: Path) -> io.BufferedReader:
    """What `stream` unpacks from an archive, up to `most_in` bytes.

    Raises:
        UserError: as it is read, where it is more.
    """
    return io.BufferedReader(_Unpacked(stream, archive), 2**18)


class _Unpacked(io.RawIOBase):
    def __init__(self, stream: IO[bytes], archive: Path):
        self._stream, self._archive, self._left = stream, archive, most_in(archive)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        content = self._stream.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise UserError(
                f"{self._archive}: holds more than {most_in(self._archive):,} bytes, {RATIO} times its size: "
                "if that is right, unpack it yourself"
            )
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()


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


def sha256(path: Path) -> str:
    """The hash of a file, read once for each size and time of change."""
    now = path.stat()
    return _sha256(path, now.st_size, now.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, *_: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def number_in(path: Path) -> float:
    """The number in a JSON file; 0 where there is none."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return 0.0


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
