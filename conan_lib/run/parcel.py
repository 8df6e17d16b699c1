"""Artefacts in a few files that travel: what a machine without a network trains on goes there, what it made comes back.

A parcel is a folder with part-00, part-01, ... of a size that can be carried, and index.json with their checksums. Joined, the parts are a
tar of artefact folders. Text is packed as one xz stream over uncompressed tables: verses that stand in six tables are stored once, which
takes a third of the room of the tables themselves. A key hashes what a result depends on and no machine, so it stays what it was.
"""

import hashlib
import io
import json
import lzma
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import IO, Literal

import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError

from conan_lib.artefacts import IDENTITY, MANIFEST, key_of, replacing, write_json
from conan_lib.data.records import read_table, write_table
from conan_lib.errors import UserError
from conan_lib.stages import Stage

INDEX = "index.json"
WINDOW = 512 * 2**20
"""Bytes over which xz finds repeated text, at most; packing takes about ten times as much memory, unpacking once."""
SMALLEST = 2**10
"""Bytes that a part holds at least: smaller ones are a slip of the pen, and a million files."""
PART = re.compile(r"part-\d{2,}")
LEFT_OUT = ("checkpoints", "pools.npz")
PACKING = ".packing"
"""Where parts lie until all are written, below the parcel's folder."""
TABLE = ".arrow"
"""Ends the name of a table that is packed uncompressed and becomes Parquet again."""


def pack(stages: Iterable[Stage], folder: Path, part_mib: float = 15, weights: bool = False) -> dict:
    """Write finished stages as a parcel; a parcel that was there before is replaced once this one is whole.

    Args:
        stages: finished ones; each artefact is packed once.
        folder: where the parts go.
        part_mib: largest part, in MiB.
        weights: the models' weights alone, rounded to bf16; otherwise all but these and the pools of negatives.

    Returns:
        The index: parts with size (bytes) and sha256, the artefacts in it, files, bytes before packing.

    Raises:
        UserError: no stage is given, one has not finished, none has weights to pack, parts would hold less than SMALLEST bytes, or
            `folder` holds other files.
    """
    if not part_mib * 2**20 >= SMALLEST:
        raise UserError(f"--part {part_mib:g}: give the largest part in MiB, at least {SMALLEST / 2**20:g}")
    stages = list(stages)
    artefacts = {stage.path: f"{stage.artefact.stage}/{stage.key}" for stage in stages}
    if unfinished := [f"{stage.artefact.stage}/{stage.key}" for stage in stages if not stage.finished] or not artefacts:
        what = f"{', '.join(unfinished)} not finished" if artefacts else "nothing has finished"
        raise UserError(f"pack: {what}: there is nothing to carry yet")
    files = [(path / name, f"{place}/{name}") for path, place in artefacts.items() for name in _names(path, weights)]
    if not files:
        raise UserError(f"pack: {', '.join(artefacts.values())}: no weights there: leave out --weights, or name stages that train")
    folder.mkdir(parents=True, exist_ok=True)
    if foreign := sorted(path.name for path in folder.iterdir() if not (path.name in (INDEX, PACKING) or PART.fullmatch(path.name))):
        raise UserError(f"{folder}: holds {foreign[0]}, which is of no parcel: name a new or an empty folder")
    if (folder / INDEX).exists():
        _index(folder)  # an earlier parcel's, or an error
    shutil.rmtree(folder / PACKING, ignore_errors=True)
    try:
        parts, total = _write_parts(files, folder / PACKING, int(min(part_mib, 2**20) * 2**20), weights)
        for old in [folder / INDEX, *folder.glob("part-[0-9]*")]:
            old.unlink(missing_ok=True)
        for part in parts:
            (folder / PACKING / part["name"]).replace(folder / part["name"])
    finally:
        shutil.rmtree(folder / PACKING, ignore_errors=True)
    index = {"parts": parts, "codec": "none" if weights else "xz", "artefacts": list(artefacts.values()),
             "files": len(files), "bytes": total}  # fmt: skip
    write_json(folder / INDEX, index)
    return index


def _write_parts(files: list[tuple[Path, str]], folder: Path, part_size: int, weights: bool) -> tuple[list[dict], int]:
    """name, size and sha256 of each part, and the bytes before packing."""
    parts, total = _Parts(folder, part_size), 0
    size = sum(4 * path.stat().st_size for path, _ in files)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": min(WINDOW, max(2**20, size))}]
    with ExitStack() as open_files:
        stream = open_files.enter_context(parts)
        if not weights:
            stream = open_files.enter_context(lzma.LZMAFile(stream, "w", filters=filters))
        archive = open_files.enter_context(tarfile.open(fileobj=stream, mode="w|"))
        for path, name in files:
            name, content = _packed(path, name)
            member = tarfile.TarInfo(name)
            member.size, total = len(content), total + len(content)
            archive.addfile(member, io.BytesIO(content))
    return parts.written, total


def unpack(folder: Path, artefacts: Path) -> dict[str, str]:
    """Put a parcel's artefacts below `artefacts`; killed and called again it goes on.

    Every file is written atomically and a manifest last, so that an artefact is finished only when it is whole. Of an artefact that is
    finished already, only files that it lacks are written.

    Returns:
        Artefact -> "new", or "here" where it had finished before.

    Raises:
        UserError: the index or a part is missing or damaged, or a manifest does not fit its key.
    """
    index = _checked(folder)
    state = {name: "here" if (artefacts / name / MANIFEST).is_file() else "new" for name in index["artefacts"]}
    try:
        _unpack(folder, artefacts, index, state)
    except (EOFError, lzma.LZMAError, tarfile.TarError):
        raise UserError(f"{folder / INDEX}: its parts are no whole parcel: it was changed after it was packed; carry it again") from None
    return state


def _unpack(folder: Path, artefacts: Path, index: dict, state: dict[str, str]) -> None:
    with ExitStack() as open_files:
        stream = open_files.enter_context(_Joined([folder / part["name"] for part in index["parts"]]))
        if index["codec"] == "xz":
            stream = open_files.enter_context(lzma.LZMAFile(stream))
        for member in (archive := open_files.enter_context(tarfile.open(fileobj=stream, mode="r|"))):
            stage, key, name = member.name.split("/", 2)
            target = artefacts / stage / key / name.removesuffix(TABLE)
            if state.get(f"{stage}/{key}") is None or not target.resolve().is_relative_to(artefacts.resolve()):
                raise UserError(f"{folder}: {member.name} is of no artefact that {INDEX} names: pack again")
            if target.is_file() and state[f"{stage}/{key}"] == "here":
                continue
            content = archive.extractfile(member).read()
            if name == MANIFEST:
                _check_manifest(content, stage, key)
                shutil.rmtree(target.parent / "checkpoints", ignore_errors=True)  # of an attempt on this machine
            _write(target, content, table=name.endswith(TABLE))


def _names(path: Path, weights: bool) -> list[str]:
    """Files of an artefact below its folder: the weights alone, or all else with the manifest last."""
    found = []
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") or part in LEFT_OUT for part in file.relative_to(path).parts)
        if file.is_file() and not hidden and file.name != MANIFEST and (file.suffix == ".safetensors") == weights:
            found.append(str(file.relative_to(path)))
    return found if weights else [*found, MANIFEST]


def _packed(path: Path, name: str) -> tuple[str, bytes]:
    """Name and content in the archive: a table without its compression, weights in bf16, all else as it is."""
    if path.suffix == ".parquet":
        table, sink = read_table(path), io.BytesIO()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return name + TABLE, sink.getvalue()
    if path.suffix == ".safetensors":
        import torch
        from safetensors.torch import load_file, save

        rounded = {key: value.to(torch.bfloat16) for key, value in load_file(path).items()}
        return name, save(rounded, {"format": "pt", "rounded": "bf16"})
    return name, path.read_bytes()


def _write(target: Path, content: bytes, table: bool) -> None:
    if table:
        write_table(target, pa.ipc.open_file(content).read_all())
        return
    with replacing(target) as new:
        new.write_bytes(content)


def _check_manifest(content: bytes, stage: str, key: str) -> None:
    try:
        manifest = json.loads(content)
        fits = manifest["stage"] == stage and key_of({name: manifest[name] for name in IDENTITY}) == key
    except (ValueError, LookupError, TypeError):
        fits = False
    if not fits:
        raise UserError(f"{stage}/{key}: its manifest has another key: the parcel was changed after it was packed")


class _Part(BaseModel):
    name: str = Field(pattern=f"^{PART.pattern}$")
    sha256: str


class _Index(BaseModel):
    parts: list[_Part] = Field(min_length=1)
    codec: Literal["xz", "none"]
    artefacts: list[str]


def _index(folder: Path) -> dict:
    try:
        return _Index.model_validate_json((folder / INDEX).read_bytes()).model_dump()
    except ValidationError:
        raise UserError(f"{folder / INDEX}: damaged, or none that pack wrote: carry it again") from None


def _checked(folder: Path) -> dict:
    """What unpacking needs of the index, once every part has been compared with its checksum."""
    if not (folder / INDEX).is_file():
        raise UserError(f"{folder}: no {INDEX}: this is no parcel, or packing it was interrupted; pack again")
    index = _index(folder)
    for part in index["parts"]:
        path = folder / part["name"]
        if not path.is_file():
            raise UserError(f"{path}: missing: {len(index['parts'])} parts belong to this parcel; carry it again")
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != part["sha256"]:
                raise UserError(f"{path}: damaged (its checksum is not that of {INDEX}): carry it again")
    return index


class _Parts(io.RawIOBase):
    """A file to write to that becomes parts of at most `size` bytes."""

    def __init__(self, folder: Path, size: int):
        self.folder, self.size = folder, size
        self.written: list[dict] = []
        self._buffer = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self._buffer += data
        while len(self._buffer) >= self.size:
            self._flush(self.size)
        return len(data)

    def close(self) -> None:
        if not self.closed and self._buffer:
            self._flush(len(self._buffer))
        super().close()

    def _flush(self, size: int) -> None:
        content = bytes(self._buffer[:size])
        del self._buffer[:size]
        name = f"part-{len(self.written):02}"
        _write(self.folder / name, content, table=False)
        self.written.append({"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()})


class _Joined(io.RawIOBase):
    """Parts read as one file."""

    def __init__(self, paths: list[Path]):
        self._files: Iterator[IO[bytes]] = map(Path.open, paths, repeat("rb"))
        self._file = next(self._files, None)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while self._file is not None:
            if count := self._file.readinto(buffer):
                return count
            self._file.close()
            self._file = next(self._files, None)
        return 0
