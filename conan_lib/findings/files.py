"""Writing of result pages and tables."""

from pathlib import Path

from conan_lib.artefacts import replacing


def write(path: Path, content: str | bytes) -> Path:
    """Write a file atomically."""
    with replacing(path) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
