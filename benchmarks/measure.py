"""The memory that a call may take, and the most that it takes."""

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.variants import Setting, Variant, call_of, make_inputs, make_mask, reason
from conan_lib.environment import peak_memory_mb


def available_bytes(device: str) -> int:
    """Memory that a call may take: free on the GPU or kept by torch for its next tensors, or MemAvailable of this machine."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():  # not Linux: nothing is skipped for its size
        return 1 << 62
    return next(int(line.split()[1]) * 1024 for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))


def peak_memory(variant: Variant, setting: Setting) -> tuple[float | None, str]:
    """(MB that one call and its mask hold at their peak beyond q, k, v and the gradient of the output, or None; why None).

    CUDA: torch's own allocator. CPU: the resident memory (VmHWM) of a process of its own, forked from one that has torch loaded.
    """
    if setting.device == "cuda":
        try:
            return _cuda_peak(variant, setting), ""
        except Exception as error:
            return None, reason(variant, error)
    if variant.name == "FlexAttention":
        return None, "not told apart from compiling"
    if not Path("/proc/self/status").is_file():
        return None, "needs Linux"
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.measure"])
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(_cpu_peak, variant, setting).result(), ""
    except BrokenProcessPool:
        return None, "out of memory"


def _cuda_peak(variant: Variant, setting: Setting) -> float:
    inputs = make_inputs(setting)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call_of(variant, setting, inputs, make_mask(variant, setting))()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _cpu_peak(variant: Variant, setting: Setting) -> float:
    torch.set_num_threads(setting.threads)
    small = replace(setting, batch=1, length=16)
    call_of(variant, small, make_inputs(small), make_mask(variant, small))()  # threads and libraries start before the count does
    inputs = make_inputs(setting)
    before = peak_memory_mb()
    call_of(variant, setting, inputs, make_mask(variant, setting))()
    return peak_memory_mb() - before
