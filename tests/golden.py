"""What a run of params/smoke.yaml makes, as one digest a stage.

Where a digest changes and the stage's key does not, its code means something else than it did, and its version in conan_lib/table.py has to
rise. The digests of a finished run are written to tests/golden.json by

    conan-lib run params/smoke.yaml && python -m tests.golden
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from safetensors import safe_open

from conan_lib.stages import Stage, open_stage
from conan_lib.table import RUN, START

GOLDEN = Path(__file__).with_suffix(".json")
EXACT = ("corpus", "sets", "heldout", "tokenizer")
"""Stages whose output is the same on every machine. Of the others, whose floating-point numbers are not, only the form is: tables' columns,
weights' names and shapes, the keys of results."""
SKIPPED = ("manifest.json", "identity.json")


def digest(stage: Stage) -> str:
    """sha256 of a finished stage's files and results."""
    exact, found = stage.name in EXACT, {"results": _form(stage.results, stage.name in EXACT)}
    for path in sorted(stage.path.rglob("*")):
        name = path.relative_to(stage.path)
        if path.is_file() and path.name not in SKIPPED and not any(part.startswith(".") for part in name.parts):
            found[str(name)] = _content(path, exact)
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _content(path: Path, exact: bool) -> Any:
    match path.suffix:
        case ".parquet":
            table = pq.read_table(path)
            columns = [f"{field.name}: {field.type}" for field in table.schema]
            return [columns, _form(table.to_pylist(), exact)] if exact else columns
        case ".json":
            return _form(json.loads(path.read_text(encoding="utf-8")), exact)
        case ".safetensors":
            with safe_open(path, "np") as file:
                return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        case ".npz":
            with np.load(path) as file:
                return {name: [str(file[name].dtype), file[name].ndim] for name in file}
    return None  # its name counts, not what it holds: pickles, pictures, logs


def _form(value: Any, exact: bool) -> Any:
    """A value with floats rounded; where it is not `exact`, its keys and types alone."""
    if isinstance(value, dict):
        return {str(key): _form(one, exact) for key, one in value.items()}
    if isinstance(value, list):
        forms = [_form(one, exact) for one in value]
        return forms if exact else sorted({json.dumps(form, sort_keys=True) for form in forms})
    if isinstance(value, float):
        return f"{value:.3g}" if exact else "number"
    if exact or isinstance(value, str | None):
        return value if exact else "text"
    return "number"


def golden(params_file: str | Path) -> dict[str, dict[str, str]]:
    """Stage -> its key and its digest, of a finished run."""
    stages = [open_stage(name, params_file) for name in RUN if name != START]
    return {stage.name: {"key": stage.key, "digest": digest(stage)} for stage in stages}


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(*(sys.argv[1:] or ["params/smoke.yaml"])), indent=1) + "\n", encoding="utf-8")
