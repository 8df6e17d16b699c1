"""What an exception means to the user: one line and an exit code, or a fault of ours."""

import errno
import re

import typer

from conan_lib.errors import RunError, Stopped, UserError

FILES = {
    errno.EEXIST: "is a file, where a folder is needed: name another",
    errno.ENOTDIR: "is below a file, where a folder is needed: name another",
    errno.EISDIR: "is a folder, where a file is needed: name another",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "may not be read or written: change its permissions, or name another"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "no space is left: make room and run it again"),
    errno.EFBIG: "grows larger than a file may be here: raise the limit (ulimit -f), or name a place on another disk",
    errno.ENAMETOOLONG: "is too long a name: name a shorter one",
    errno.ELOOP: "is a link that leads to itself: name another",
    errno.EIO: "cannot be read or written: look after the disk",
}
"""What the file system refuses, and the mend; other errors of the system are not the user's."""
NO_MEMORY = r"out of memory|DefaultCPUAllocator|ALLOC_FAILED"
"""What torch says, beside an error of its own, where it cannot allocate: on a GPU, on the machine, in cuBLAS."""
(_UsageError,) = typer.BadParameter.__bases__  # typer carries its own copy of click, so there is no public name for it


def told(error: Exception) -> tuple[str, int] | None:
    """The line and the exit code; None: no mistake of the user's, and a traceback is right."""
    if isinstance(error, _UsageError):
        return f"{error.format_message()} (see conan-lib --help)", 2
    if isinstance(error, Stopped):
        return f"{error}; run it again to go on", 3
    if isinstance(error, (UserError, RunError)):
        return str(error), 2 if isinstance(error, UserError) else 1
    if isinstance(error, ModuleNotFoundError):
        ours = (error.name or "").startswith("conan_lib")
        return None if ours else (f"package {error.name} is not installed: run make, or pip install -e '.[notebooks]' in the checkout", 2)
    if isinstance(error, RuntimeError) and (type(error).__name__ == "OutOfMemoryError" or re.search(NO_MEMORY, str(error))):
        where = "this machine" if "DefaultCPUAllocator" in str(error) else "the GPU"
        return (
            f"no memory is left on {where}: lower the section's batch_size (task_batch_size) or max_length, or set its cached_minibatch "
            "(weak, supervised), gradient_accumulation (pretrain, sft) or gradient_checkpointing; see docs/cluster.md"
        ), 1
    if isinstance(error, RuntimeError) and re.search(r"closed by peer|reset by peer|NCCL (error|communicator)", str(error)):
        return "another process of this launch has ended: its own message says why; the same launch goes on from the last checkpoint", 1
    if isinstance(error, MemoryError):
        return "no memory is left: use smaller batches, less text at once, or a machine that has more", 1
    rust = re.search(r"\(os error (\d+)\)", str(error))  # safetensors and tokenizers, written in Rust, have no errno
    number = getattr(error, "errno", None) or (rust and int(rust[1]))
    if number not in FILES:
        return None
    return f"{getattr(error, 'filename', None) or getattr(error, 'strerror', None) or error}: {FILES[number]}", 2
