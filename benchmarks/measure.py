"""Time by repeats that take turns, and the peak memory of one call."""

import random
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.variants import Setting, Variant, call_of, make_inputs, make_mask, reason
from conan_lib.artefacts import peak_memory_mb

LEAST_REPEATS = 3


def available_bytes(device: str) -> int:
    """Memory that a call may take: free on the GPU or kept by torch for its next tensors, or MemAvailable of this machine."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():  # not Linux: nothing is skipped for its size
        return 1 << 62
    return next(int(line.split()[1]) * 1024 for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable"))


def once(call: Callable, device: str) -> float:
    """Wall-clock seconds of a call, the launch of its kernels and their work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def take_turns(calls: dict[Hashable, Callable], repeats: int, device: str, seed: int, deadline: float) -> dict[Hashable, list[float]]:
    """Seconds of every call in every repeat. In a repeat each is called once, in an order drawn anew: whatever else the machine does falls
    on all of them, and figures of one repeat may be divided by each other.

    Args:
        deadline: `time.monotonic()` after which no repeat starts beyond LEAST_REPEATS.
    """
    order, shuffle, seconds = list(calls), random.Random(seed), {name: [] for name in calls}
    for repeat in range(repeats):
        if repeat >= LEAST_REPEATS and time.monotonic() > deadline:
            break
        shuffle.shuffle(order)
        for name in order:
            seconds[name].append(once(calls[name], device))
    return seconds


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
