"""The smoke tier's parameters with a folder of artefacts of their own."""

from pathlib import Path

from conan_lib.params import Params, load_params

ROOT = Path(__file__).parents[2]


def smoke_params(folder: Path, threads: int = 2, sets: dict | None = None, heldout: dict | None = None, **data) -> Params:
    """params/smoke.yaml with its artefacts in `folder` and other parameters of the data."""
    params = load_params(ROOT / "params" / "smoke.yaml")
    over = {"runtime": {"artefacts": str(folder), "threads": threads}, "data": data, "sets": sets or {}, "heldout": heldout or {}}
    sections = {name: getattr(params, name) for name in over}
    return params.model_copy(
        update={name: type(section).model_validate({**section.model_dump(), **over[name]}) for name, section in sections.items()}
    )
