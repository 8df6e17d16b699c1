"""The smoke tier's data, built once in a folder of its own."""

import json
from pathlib import Path

import pytest
from smoke_data import smoke_params

from conan_lib.data import records
from conan_lib.data.build import SCHEMAS, build_data
from conan_lib.stages import Stage, open_stage


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Stage:
    return build_data(open_stage("data", smoke_params(tmp_path_factory.mktemp("smoke"))))


@pytest.fixture(scope="session")
def tables(smoke) -> dict[str, list[dict]]:
    """Every table of the artefact by name."""
    return {name: records.read(smoke.path / f"{name}.parquet") for name in SCHEMAS}


@pytest.fixture(scope="session")
def tasks(smoke) -> dict[str, list[dict]]:
    """split -> the evaluation sets, each with its tables under "tables"."""
    found = {}
    for split in ("dev", "test"):
        folder = smoke.path / "eval" / split
        found[split] = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
        for task in found[split]:
            task["tables"] = {Path(file).stem: records.read(folder / file) for file in task["files"]}
    return found
