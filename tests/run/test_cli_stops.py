"""A full disk, no memory and an interruption are one line that says what to do; a slip of ours keeps its traceback."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch

from conan_lib.params.training import PretrainParams, SftParams, SupervisedParams, WeakParams
from conan_lib.run import notebooks
from tests.run.test_cli import FILE, assert_one_line


def test_a_full_disk_is_one_line_and_a_slip_of_ours_is_not(project, conan, monkeypatch):
    def fails(error):
        def run(*_):
            raise error

        monkeypatch.setattr(notebooks, "run_notebooks", run)

    fails(OSError(28, "No space left on device", "x.parquet"))
    assert conan("run", FILE)[::2] == (2, "conan-lib: x.parquet: no space is left: make room and run it again\n")
    from safetensors import SafetensorError

    for kind in (SafetensorError, Exception, OSError):
        fails(kind("Error while serializing: I/O error: No space left on device (os error 28)"))
        code, _, err = conan("run", FILE)
        assert_one_line(code, err)
        assert "no space is left" in err
    for number in (errno.EFBIG, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO):
        fails(OSError(number, os.strerror(number), "model.pt"))
        code, _, err = conan("run", FILE)
        assert_one_line(code, err)
        assert err.startswith("conan-lib: model.pt: ")
    fails(MemoryError())
    assert conan("run", FILE)[::2] == (
        1,
        "conan-lib: no memory is left: use smaller batches, less text at once, or a machine that has more\n",
    )
    fails(SafetensorError("no such key"))
    with pytest.raises(SafetensorError):
        conan("run", FILE)
    fails(FileNotFoundError(2, "No such file", "x"))
    with pytest.raises(FileNotFoundError):
        conan("run", FILE)


def _not_allocated() -> RuntimeError:
    with pytest.raises(RuntimeError) as found:
        torch.empty(2**52, dtype=torch.uint8)
    return found.value


NO_MEMORY = {
    "torch's own error": ("the GPU", lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has 3 GiB")),
    "a kernel's": ("the GPU", lambda: RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")),
    "cuBLAS'": ("the GPU", lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
    "NCCL's": ("the GPU", lambda: RuntimeError("NCCL error: unhandled cuda error, Cuda failure 2 'out of memory'")),
    "the machine's": ("this machine", _not_allocated),
    "an older one of the machine": (
        "this machine",
        lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
    ),
}


@pytest.mark.parametrize(("where", "error"), NO_MEMORY.values(), ids=NO_MEMORY.keys())
def test_no_memory_for_a_tensor_is_one_line_that_names_the_fields(project, conan, monkeypatch, where, error):
    """The fields are those of the sections."""

    def fails(*_):
        raise error()

    monkeypatch.setattr(notebooks, "run_notebooks", fails)
    code, _, err = conan("run", FILE)
    assert code == 1 and err.count("\n") == 1
    assert err.startswith(f"conan-lib: no memory is left on {where}: lower the section's batch_size (task_batch_size) or max_length")
    both = WeakParams.model_fields.keys() & SupervisedParams.model_fields.keys()
    assert {"cached_minibatch", "max_length", "gradient_checkpointing"} <= both and "task_batch_size" in SupervisedParams.model_fields
    assert "cached_minibatch (weak, supervised), gradient_accumulation (pretrain, sft) or gradient_checkpointing" in err
    assert "gradient_accumulation" in PretrainParams.model_fields.keys() & SftParams.model_fields.keys() - both


def test_ctrl_c_is_heard_before_the_command_has_begun():
    """While it imports, which takes seconds: without a traceback. The first import of a package waits for the signal here."""
    code = """
import sys, time
import conan_lib.run.cli as cli

class Waits:
    def find_spec(self, name, path=None, target=None):
        if name in ("typer", "pydantic"):
            print(name, flush=True)
            time.sleep(600)

print(sorted({"typer", "pydantic"} & set(sys.modules)), flush=True)
sys.meta_path.insert(0, Waits())
cli.main()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "[]\n"
        assert process.stdout.readline() in ("typer\n", "pydantic\n")
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "conan-lib: interrupted; run it again to go on\n"
    assert process.returncode == 130


def test_an_interruption_says_so(project, conan, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(notebooks, "run_notebooks", interrupted)
    code, _, err = conan("run", FILE)
    assert code == 130 and err == "conan-lib: interrupted; run it again to go on\n"
