"""Files that are written whole or not at all, locked by one process at a time, and read with one line where they are damaged."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from conan_lib.errors import UserError

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def lock(file: IO, wait: bool = True) -> None:
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
    with file:
        try:
            lock(file, wait)
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


@contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder that is gone after the block, and after the next attempt where a process was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
