"""BIG-bench's source archive (the sdist of bigbench 1.0.0): MultiEmo and SQuADShifts. Its files carry a canary: they are for evaluation
only, and nothing that trains reads them."""

import json
import re
import tarfile
from pathlib import Path

from conan_lib.errors import UserError
from conan_lib.stages import project_root

HOW_TO_GET = "get it with `pip download --no-deps --no-binary :all: bigbench==1.0.0`"


def find_archive(path: str, field: str, otherwise: str) -> Path:
    """The archive, relative paths below the project root.

    Raises:
        UserError: it is not there; names the parameter `field` and what else to do.
    """
    archive = project_root() / path
    if not archive.is_file():
        raise UserError(f"{field}: no {archive}: {HOW_TO_GET}, name its place in {field}{otherwise}")
    return archive


def members(archive: Path, pattern: re.Pattern, count: int, field: str) -> dict[str, dict]:
    """The JSON files whose names match, by what the pattern's groups caught, joined with "/".

    The archive is streamed: nothing is unpacked, and reading ends at the `count`-th match. Ten to twenty seconds.

    Raises:
        UserError: not a gzipped tar, or a file in it is not JSON.
    """
    found: dict[str, dict] = {}
    try:
        with tarfile.open(archive, "r|gz") as stream:
            for member in stream:
                if match := pattern.search(member.name):
                    found["/".join(filter(None, match.groups()))] = json.load(stream.extractfile(member))
                    if len(found) == count:
                        break
    except (tarfile.TarError, EOFError, OSError, json.JSONDecodeError) as error:
        raise UserError(f"{field}: {archive}: {type(error).__name__} {error}: download it again") from None
    return found
