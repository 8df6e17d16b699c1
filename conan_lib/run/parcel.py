"""Artefacts in a few files that travel: what a machine without a network trains on goes there, what it made comes back.

A parcel is a folder with part-00, part-01, ... of a size that can be carried, and index.json with their checksums. Joined, the parts are a
tar of artefact folders. Text is packed as one xz stream over tables without compression of their own: verses that stand in six tables are
stored once, which takes half the room. A key hashes what a result depends on and no machine, so it stays what it was.

What travels: everything but weights, what another machine trains on; the weights alone; or the results alone, what a report is drawn from.
"""

import hashlib
import json
import lzma
import re
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Literal

import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError

from conan_lib.artefacts import IDENTITY, MANIFEST, ROWS, Artefact, key_of, listing
from conan_lib.data.records import read_table
from conan_lib.errors import UserError
from conan_lib.files import RATIO, most_in, scratch, sha256, write_json
from conan_lib.stages import Stage

INDEX = "index.json"
WINDOW = 512 * 2**20
"""Bytes over which xz finds repeated text, at most; packing takes about ten times as much memory, unpacking once."""
SMALLEST = 2**10
"""Bytes that a part holds at least: smaller ones are a slip of the pen, and a million files."""
PART = re.compile(r"part-\d{2,}")
LEFT_OUT = ("checkpoints", ROWS, "pools.npz", "evaluation_index.npz")
TEXTS = ("corpus", "sets", "heldout", "mine")
"""Stages whose tables are text, which results do without, as they do without vectors and tokenizers."""
What = Literal["inputs", "weights", "results"]
PACKING = ".packing"
"""Where parts lie until all are written, below the parcel's folder."""


def pack(stages: Iterable[Stage | Artefact], folder: Path, part_mib: float = 15, what: What = "inputs") -> dict:
    """Write finished stages as a parcel; a parcel that was there before is replaced once this one is whole.

    Args:
        stages: finished ones; each artefact is packed once.
        folder: where the parts go.
        part_mib: largest part, in MiB.
        what: "inputs": all but weights and the pools of negatives. "weights": these alone, rounded to bf16. "results": as inputs, and
            without the tables of `TEXTS`; who trains on those is told that they are missing.

    Returns:
        The index: parts with size (bytes) and sha256, the artefacts in it, files, bytes before packing.

    Raises:
        UserError: no stage is given, one has not finished or is damaged, none has weights to pack, parts would hold less than SMALLEST
            bytes, or `folder` holds other files.
    """
    if not part_mib * 2**20 >= SMALLEST:
        raise UserError(f"--part {part_mib:g}: give the largest part in MiB, at least {SMALLEST / 2**20:g}")
    packed = [one if isinstance(one, Artefact) else one.artefact for one in stages]
    artefacts = {one.path: f"{one.stage}/{one.key}" for one in packed}
    if unfinished := [f"{one.stage}/{one.key}" for one in packed if not one.finished] or not artefacts:
        why = f"{', '.join(unfinished)} not finished" if artefacts else "nothing has finished"
        raise UserError(f"pack: {why}: there is nothing to carry yet")
    files = [(path / name, f"{place}/{name}") for path, place in artefacts.items() for name in _names(path, what)]
    if not files:
        raise UserError(f"pack: {', '.join(artefacts.values())}: no weights there: leave out --weights, or name stages that train")
    for one in packed:
        one.verify(unread="" if what == "weights" else ".safetensors", missing=_left_out(one.stage, what))
    folder.mkdir(parents=True, exist_ok=True)
    if foreign := sorted(path.name for path in folder.iterdir() if not (path.name in (INDEX, PACKING) or PART.fullmatch(path.name))):
        raise UserError(f"{folder}: holds {foreign[0]}, which is of no parcel: name a new or an empty folder")
    if (folder / INDEX).exists():
        _index(folder)  # an earlier parcel's, or an error
    shutil.rmtree(folder / PACKING, ignore_errors=True)
    try:
        (folder / PACKING).mkdir()
        total = _write_archive(files, folder / PACKING / "archive", what == "weights")
        parts = _split(folder / PACKING / "archive", int(min(part_mib, 2**20) * 2**20))
        for old in [folder / INDEX, *folder.glob("part-[0-9]*")]:
            old.unlink(missing_ok=True)
        for part in parts:
            (folder / PACKING / part["name"]).replace(folder / part["name"])
    finally:
        shutil.rmtree(folder / PACKING, ignore_errors=True)
    index = {"parts": parts, "artefacts": list(artefacts.values()), "files": len(files), "bytes": total}
    write_json(folder / INDEX, index)
    return index


def _write_archive(files: list[tuple[Path, str]], path: Path, weights: bool) -> int:
    """Write (file, name in the archive), a file of several names once; returns the bytes before packing."""
    names: dict[tuple[int, int], str] = {}
    total, window = 0, min(WINDOW, max(2**20, sum(4 * file.stat().st_size for file, _ in files)))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": window}]
    opened: IO[bytes] = open(path, "wb") if weights else lzma.open(path, "wb", filters=filters)  # noqa: SIM115
    with opened as stream, tarfile.open(fileobj=stream, mode="w|") as archive, TemporaryDirectory(dir=path.parent) as scratch:
        for file, name in files:
            first = names.setdefault((file.stat().st_dev, file.stat().st_ino), name)
            if first != name:  # a model that passed through a stage
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.LNKTYPE, first
                archive.addfile(link)
                continue
            plain = _plain(file, Path(scratch) / "file")
            archive.add(plain, name)
            total += plain.stat().st_size
    return total


def _plain(file: Path, scratch: Path) -> Path:
    """The file that is packed: a table without its compression and weights in bf16, both in `scratch`; all else as it is."""
    if file.suffix == ".parquet":
        pq.write_table(read_table(file), scratch, compression="none", use_dictionary=False)
        return scratch
    if file.suffix == ".safetensors":
        import torch
        from safetensors.torch import load_file, save_file

        save_file({key: value.to(torch.bfloat16) for key, value in load_file(file).items()}, scratch, {"format": "pt", "rounded": "bf16"})
        return scratch
    return file


def _split(archive: Path, size: int) -> list[dict]:
    """Cut a file into parts beside it: name, size and sha256 of each."""
    parts = []
    with open(archive, "rb") as file:
        while file.tell() < archive.stat().st_size:
            name, digest, left = f"part-{len(parts):02}", hashlib.sha256(), size
            with open(archive.with_name(name), "wb") as part:
                while content := file.read(min(left, 2**20)):  # a part may be larger than memory
                    left -= part.write(content)
                    digest.update(content)
            parts.append({"name": name, "size": size - left, "sha256": digest.hexdigest()})
    return parts


def unpack(folder: Path, artefacts: Path) -> dict[str, str]:
    """Put a parcel's artefacts below `artefacts`; killed and called again it goes on.

    A manifest takes its place last, so that an artefact is finished only when it is whole. Of an artefact that is finished already, only
    files that it lacks are written.

    Returns:
        Artefact -> "new", or "here" where it had finished before.

    Raises:
        UserError: the index or a part is missing or damaged, or a manifest does not fit its key.
    """
    index = _checked(folder)
    with scratch(artefacts / ".unpacking") as workplace:
        joined, made = workplace / "archive", workplace / "made"
        with open(joined, "wb") as file:
            for part in index["parts"]:
                with open(folder / part["name"], "rb") as content:
                    shutil.copyfileobj(content, file)
        try:
            with tarfile.open(joined) as archive:
                archive.extractall(made, filter=_within(most_in(joined), folder))
        except tarfile.OutsideDestinationError as error:
            raise UserError(f"{folder}: {error.tarinfo.name} is of no artefact that {INDEX} names: pack again") from None
        except (EOFError, lzma.LZMAError, tarfile.TarError):
            raise UserError(
                f"{folder / INDEX}: its parts are no whole parcel: it was changed after it was packed; carry it again"
            ) from None
        names = [path.relative_to(made) for path in made.rglob("*") if path.is_file()]
        for name in names:
            if "/".join(name.parts[:2]) not in index["artefacts"]:
                raise UserError(f"{folder}: {name} is of no artefact that {INDEX} names: pack again")
            if name.parts[2:] == (MANIFEST,):
                manifest = _checked_manifest((made / name).read_bytes(), *name.parts[:2])
                # a table has other bytes; weights may follow; of a table that stayed behind the manifest still says that it is missing
                texts = {file: entry for file, entry in manifest.get("files", {}).items() if file.endswith(".parquet")}
                write_json(made / name, manifest | {"files": texts | listing((made / name).parent)})
        state = {name: "here" if (artefacts / name / MANIFEST).is_file() else "new" for name in index["artefacts"]}
        for name in sorted(names, key=lambda name: name.name == MANIFEST):
            if state["/".join(name.parts[:2])] == "new" or not (artefacts / name).is_file():
                _put(made / name, artefacts / name)
    return state


def _within(most: int, folder: Path) -> Callable[[tarfile.TarInfo, str], tarfile.TarInfo]:
    """tarfile's filter for data, for plain files of `most` bytes together."""
    total = 0

    def check(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
        nonlocal total
        total += member.size
        if total > most or not (member.isreg() or member.isdir() or member.islnk()):  # a link to another member: a file that is there twice
            what = "is no plain file" if total <= most else f"makes more than {most:,} bytes, {RATIO} times the parcel's size"
            raise UserError(f"{folder}: {member.name} {what}: no parcel that pack wrote")
        return tarfile.data_filter(member, path)

    return check


def _put(made: Path, target: Path) -> None:
    if target.name == MANIFEST:
        for name in ("checkpoints", ROWS):  # of an attempt on this machine
            shutil.rmtree(target.parent / name, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    made.replace(target)


def _names(path: Path, what: What) -> list[str]:
    """Files of an artefact below its folder: the weights alone, or all else with the manifest last."""
    left, found = _left_out(path.parent.name, what), []
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") or part in LEFT_OUT for part in file.relative_to(path).parts) or file.name.endswith(left)
        if file.is_file() and not hidden and file.name != MANIFEST and (file.suffix == ".safetensors") == (what == "weights"):
            found.append(str(file.relative_to(path)))
    return found if what == "weights" else [*found, MANIFEST]


def _left_out(stage: str, what: What) -> tuple[str, ...]:
    """Ends of the names of a stage's files that results do without; a parcel of them may have left these behind before."""
    return () if what != "results" else ("tokenizer.json", ".npy", *((".parquet",) if stage in TEXTS else ()))


def _checked_manifest(content: bytes, stage: str, key: str) -> dict:
    try:
        manifest = json.loads(content)
        fits = manifest["stage"] == stage and key_of({name: manifest[name] for name in IDENTITY}) == key
    except (ValueError, LookupError, TypeError):
        fits = False
    if not fits:
        raise UserError(f"{stage}/{key}: its manifest has another key: the parcel was changed after it was packed")
    return manifest


class _Part(BaseModel):
    name: str = Field(pattern=f"^{PART.pattern}$")
    sha256: str


class _Index(BaseModel):
    parts: list[_Part] = Field(min_length=1)
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
        if sha256(path) != part["sha256"]:
            raise UserError(f"{path}: damaged (its checksum is not that of {INDEX}): carry it again")
    return index
