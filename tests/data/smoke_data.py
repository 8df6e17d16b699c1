"""The smoke tier's parameters with a folder of artefacts of their own."""

from pathlib import Path

from conan_lib.params import Params, load_params

ROOT = Path(__file__).parents[2]


def smoke_params(folder: Path, threads: int = 2, **data) -> Params:
    """params/smoke.yaml with its artefacts in `folder` and other data parameters."""
    params = load_params(ROOT / "params" / "smoke.yaml")
    runtime = params.runtime.model_copy(update={"artefacts": str(folder), "threads": threads})
    section = type(params.data).model_validate({**params.data.model_dump(), **data})
    return params.model_copy(update={"runtime": runtime, "data": section})
