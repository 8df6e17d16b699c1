"""The smoke tier's data, built once in a folder of its own: its three stages, their tables, and the evaluation sets."""

import json
from pathlib import Path

import pytest
from smoke_data import smoke_params

from conan_lib.data import records
from conan_lib.data.build import build_corpus, build_heldout, build_sets
from conan_lib.data.sets import SETS
from conan_lib.params import Params
from conan_lib.stages import Stage, open_stage


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Params:
    """The parameters of the run that the other fixtures are of."""
    return smoke_params(tmp_path_factory.mktemp("smoke"))


@pytest.fixture(scope="session")
def corpus(smoke) -> Stage:
    return build_corpus(open_stage("corpus", smoke))


@pytest.fixture(scope="session")
def sets(smoke, corpus) -> Stage:
    return build_sets(open_stage("sets", smoke))


@pytest.fixture(scope="session")
def heldout(smoke, corpus) -> Stage:
    return build_heldout(open_stage("heldout", smoke))


@pytest.fixture(scope="session")
def documents(corpus) -> list[dict]:
    """What language models read, held-out text included."""
    return records.read(corpus.path / "documents.parquet")


@pytest.fixture(scope="session")
def tables(sets) -> dict[str, list[dict]]:
    """Every training set by name."""
    return {name: records.read(sets.path / f"{name}.parquet") for name in SETS}


@pytest.fixture(scope="session")
def tasks(heldout) -> dict[str, list[dict]]:
    """split -> the evaluation sets, each with its tables under "tables"."""
    found = {}
    for split in ("dev", "test"):
        folder = heldout.path / "eval" / split
        found[split] = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
        for task in found[split]:
            task["tables"] = {Path(file).stem: records.read(folder / file) for file in task["files"]}
    return found
