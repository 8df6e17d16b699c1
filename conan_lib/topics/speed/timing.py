"""Wall-clock time of several calls side by side: they take turns, so that whatever else the machine does falls on all of them."""

import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping

import torch

LEAST_REPEATS = 3


def once(call: Callable, device: str) -> float:
    """Wall-clock seconds of a call, the launch of its kernels and their work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def take_turns(
    calls: Mapping[Hashable, Callable], repeats: int, device: str, seed: int, deadline: float = float("inf")
) -> dict[Hashable, list[float]]:
    """Seconds of every call in every repeat. In a repeat each is called once, in an order drawn anew: figures of one repeat may be divided
    by each other.

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


def fitting(call: Callable[[int], object], most: int, seconds: float, device: str) -> int:
    """How many items a call may have to take about `seconds`: doubled from one until it takes half of that, at most `most`.

    The call of one item is the warm-up and is not timed.
    """
    call(1)
    n = 1
    while n < most and once(lambda n=n: call(n), device) < seconds / 2:
        n = min(2 * n, most)
    return n


def rates(seconds: Mapping[Hashable, list[float]], items: Mapping[Hashable, int], baseline: Hashable) -> dict[Hashable, dict[str, float]]:
    """Items a second of each call: the median of its repeats and their range, and the same of its ratio to the baseline in each repeat.

    Args:
        seconds: what `take_turns` returned.
        items: how many each call had.

    Returns:
        name -> {rate, low, high, ratio, ratio_low, ratio_high, repeats}.
    """
    found = {name: [items[name] / one for one in own] for name, own in seconds.items()}
    rows = {}
    for name, own in found.items():
        ratios = [one / base for one, base in zip(own, found[baseline], strict=True)]
        rows[name] = {
            "rate": statistics.median(own), "low": min(own), "high": max(own),
            "ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios), "repeats": len(own),
        }  # fmt: skip
    return rows
