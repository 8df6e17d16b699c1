"""Writing of result pages and tables, and where the committed ones stand."""

from pathlib import Path

from conan_lib.files import replacing
from conan_lib.stages import project_root

FOLDER = "ablations"
"""The folder of a report that holds its grids."""
RECORD = "run.json"
"""Names the run of a report: tier, time of its last stage, revisions, stages that had not finished."""


def committed(tier: str) -> Path:
    """The committed report of a tier, reports/<tier>/: evidence that no run replaces, only `conan-lib publish`."""
    return project_root() / "reports" / tier


def write(path: Path, content: str | bytes) -> Path:
    """Write a file atomically."""
    with replacing(path) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
