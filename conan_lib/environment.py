"""Where a number comes from: machine, device, versions, revision, and the memory that was held."""

import os
import platform
import resource
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RECORDED_PACKAGES = ("torch", "transformers", "sentence-transformers", "tokenizers", "accelerate", "datasets", "mteb", "numpy")


def environment() -> dict:
    """Where a number comes from: machine, versions, git revision."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "device": _device(),
        "packages": {name: _version(name) for name in RECORDED_PACKAGES},
        "revision": _revision(),
    }


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The git revision of the source, with + where tracked files differ from it. Outside a checkout what CONAN_REVISION says, or None."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no", "--", str(here)) else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("CONAN_REVISION")


def peak_memory_mb() -> float:
    """The most resident memory (MB) that this process has held so far: stages of one process share it, helper processes are not in."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux; its getrusage starts from the peak of the parent process
        kibibytes = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(kibibytes * 1024 / 1e6, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)
