"""Query-passage pairs in a file, and a run on them alone."""

import json
from pathlib import Path

from conan_lib.params import Params

COLOURS, PLACES = ("red", "green", "blue", "yellow", "black", "white", "grey"), ("hill", "lake", "road", "wall", "port", "mill")
THINGS = ("house", "boat", "stone", "field", "tower", "bridge", "garden", "market")
PAIRS = [
    {
        "query": f"which {colour} {thing} stands by the {place}",
        "pos": [f"The {colour} {thing} by the {place} was built long ago, in {year}."],
    }
    for year, (colour, thing, place) in enumerate(((c, t, p) for c in COLOURS for t in THINGS for p in PLACES), 1500)
]


def write_pairs(file: Path, pairs: list[dict] = PAIRS, more: list[dict] = ()) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in [*pairs, *more]))
    return file


def params_of(folder: Path, pairs: Path, **data) -> Params:
    sets = [{"from": str(pairs), "task": "retrieval", "lang": "en"}]
    runtime = {"artefacts": str(folder / "artefacts"), "reports": str(folder / "reports"), "threads": 1}
    return Params.model_validate({"tier": "own", "data": {"languages": ["en"], "sets": sets, **data}, "runtime": runtime})
