"""Soft-mask attention beside the reference, FlexAttention and stock attention: time and peak memory over the length, on a CPU or on CUDA.

    python -m benchmarks.attention                                 # the device at hand, its default sizes; also: make benchmark
    python -m benchmarks.attention --device cuda --budget 240      # what fits into 240 seconds
    python -m benchmarks.attention --heads 32/8x112 --batch 2 --lengths 128 512 --repeats 50
    python -m benchmarks.attention --redraw benchmarks/results/cpu # the figures again, from attention.csv

Writes attention.csv, attention.md and attention_<heads>.svg below benchmarks/results/<device>/. Every variant is checked against float64
before it is timed.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.measure import available_bytes, peak_memory
from benchmarks.results import Row, command, folder_of, markdown, quartiles, read_csv, where, write_csv
from benchmarks.variants import (
    FLASH,
    STOCK,
    Heads,
    Setting,
    Variant,
    call_of,
    check,
    make_inputs,
    make_mask,
    reason,
    square_bytes,
    variants_of,
)
from conan_lib.errors import UserError
from conan_lib.topics.speed.timing import LEAST_REPEATS, once, take_turns

NAMES = list(dict.fromkeys(variant.name for variant in variants_of("cuda")))
PAPER = Heads(32, 8, 112)
CUDA_TOKENS = 16384
"""Tokens of a call on CUDA, in as many sequences as fit: the batch that keeps a GPU busy at short lengths."""
WARM_UP = 2
SPARE_MEMORY = 0.7
"""Share of the free memory that a variant's estimated L x L tensors may take."""
ALWAYS = 0.002
"""Share of the time left that a cell may take although its setting's share is spent."""
TIME_LEFT = "not measured: the time budget was spent"


@dataclass(frozen=True)
class Sweep:
    """One kind of heads over several lengths."""

    heads: Heads
    batch: int | None
    """Sequences of a call; None: CUDA_TOKENS // length, at least one."""
    lengths: tuple[int, ...]

    def settings(self, common: Setting) -> Iterator[Setting]:
        for length in sorted(self.lengths):
            batch = self.batch or max(1, CUDA_TOKENS // length)
            for backward in (False, True):
                yield replace(common, heads=self.heads, batch=batch, length=length, backward=backward)


DEFAULTS = {
    "cpu": (
        Sweep(Heads(8, 8, 64), 8, (64, 128, 256, 512, 1024)),
        Sweep(PAPER, 1, (64, 128, 256, 512, 1024)),
        Sweep(Heads(2, 2, 64), 1, (4096, 8192)),
    ),
    "cuda": (Sweep(PAPER, None, (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)),),
}


class Benchmark:
    """All cells of a list of settings, measured setting by setting.

    Args:
        settings, variants: in the order to measure; of one kind of heads the shorter lengths first: they say what a longer one will take.
        repeats: of every call, at most.
        budget: seconds for everything, or None. What does not fit is left out and says so.
    """

    def __init__(self, settings: list[Setting], variants: list[Variant], repeats: int, budget: float | None = None):
        self.settings, self.variants, self.repeats = settings, variants, repeats
        self.end = time.monotonic() + (budget or 1e9)
        self.refused: dict[tuple, str] = {}
        self.last: dict[tuple, float] = {}
        """(variant, heads, direction) -> seconds of a call over B L^2, at the last length measured."""

    def run(self) -> list[Row]:
        """A row for every variant at every setting.

        Raises:
            RuntimeError: a variant disagrees with the reference.
        """
        rows = []
        work = [setting.batch * setting.length**2 for setting in self.settings]
        weights = [own / sum(work) + 1 / len(work) for own in work]  # of the time: half by the size of a call, half evenly
        with tqdm(total=len(self.settings) * len(self.variants), unit="cell", disable=None) as bar:
            for place, setting in enumerate(self.settings):
                bar.set_description(f"{setting.heads}, L {setting.length}, {setting.direction}")
                share = weights[place] / sum(weights[place:])
                rows += self._measure(setting, time.monotonic() + share * max(0, self.end - time.monotonic()), bar)
        return rows

    def _measure(self, setting: Setting, deadline: float, bar: tqdm) -> list[Row]:
        """The rows of one setting. The baselines come first and then the quickest: a short deadline leaves out the slow ones."""
        why, calls, inputs, planned = {}, {}, make_inputs(setting), 0.0
        for variant in sorted(self.variants, key=lambda variant: (variant.name not in (STOCK, FLASH), self._expected(variant, setting))):
            expected = self._expected(variant, setting)
            why[variant] = self._why_not(variant, setting, deadline - time.monotonic() - planned)
            call = call_of(variant, setting, inputs, make_mask(variant, setting))
            why[variant] = why[variant] or self._warm_up(variant, call, setting.device)
            if not why[variant]:
                calls[variant] = call
                planned += LEAST_REPEATS * expected
            else:
                bar.update()
        seconds = take_turns(calls, self.repeats, setting.device, setting.seed, deadline)
        calls.clear()  # and with them the masks, so that each peak is measured alone
        baseline = next((variant for variant in (Variant(FLASH), Variant(STOCK)) if variant in seconds), None)
        rows = []
        for variant in self.variants:
            row = Row(
                str(setting.heads), setting.batch, setting.length, setting.dtype, setting.direction, variant.name, variant.reading,
                note=why[variant] or "measured", memory_note=why[variant] or "measured", baseline=baseline.name if baseline else "-",
            )  # fmt: skip
            if variant in seconds:
                own = seconds[variant]
                self.last[variant, setting.heads, setting.backward] = statistics.median(own) / (setting.batch * setting.length**2)
                row = replace(row, repeats=len(own), **_quartiles("ms", [1000 * s for s in own]))
                if baseline:
                    row = replace(row, **_quartiles("ratio", [s / b for s, b in zip(own, seconds[baseline], strict=True)]))
                spent = time.monotonic() > self.end
                peak, memory_note = (None, TIME_LEFT) if spent else peak_memory(variant, setting)
                row = replace(row, peak_mb=peak, memory_note=memory_note or "measured")
                bar.update()
            rows.append(row)
        return rows

    def _expected(self, variant: Variant, setting: Setting) -> float:
        """Seconds of a call, from the last length measured; 0 where nothing is known."""
        return self.last.get((variant, setting.heads, setting.backward), 0.0) * setting.batch * setting.length**2

    def _why_not(self, variant: Variant, setting: Setting, seconds_left: float) -> str:
        """Why a cell is left out before anything of its size is tried; checks a variant when it meets its heads and direction first."""
        if time.monotonic() > self.end:
            return TIME_LEFT
        need, free = square_bytes(variant, setting), available_bytes(setting.device)
        if need > SPARE_MEMORY * free:
            return f"does not fit: about {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
        expected = self._expected(variant, setting)
        if expected * (WARM_UP + LEAST_REPEATS) > max(seconds_left, ALWAYS * (self.end - time.monotonic())):
            return f"not measured: about {expected:.2g} s a call, too much for the time budget"
        key = variant, setting.heads, setting.backward
        if key not in self.refused:
            self.refused[key] = check(variant, setting)
        return self.refused[key]

    def _warm_up(self, variant: Variant, call: Callable, device: str) -> str:
        """The calls that compile and load what a call needs -> an empty string, or why it cannot run at this size."""
        try:
            for _ in range(WARM_UP):
                once(call, device)
        except Exception as error:
            return reason(variant, error)
        return ""


def _quartiles(name: str, values: list[float]) -> dict[str, float]:
    low, middle, high = quartiles(values)
    return {f"{name}_q1": low, name: middle, f"{name}_q3": high}


def facts_of(common: Setting, repeats: int, budget: float | None) -> dict[str, str]:
    """Where and how the numbers were made."""
    return {
        **where(common.device, common.threads),
        **({"CUDA": torch.version.cuda} if common.device == "cuda" else {}),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "dtype": common.dtype,
        "alpha": f"{common.alpha:g}",
        "seed": str(common.seed),
        "FlexAttention": "compiled once for all lengths" if common.device == "cuda" else "compiled for each length",
        "repeats": f"{repeats} at most, taking turns" + (f"; budget {budget:g} s" if budget else ""),
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention", description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--lengths", type=int, nargs="+", help="tokens of a sequence")
    parser.add_argument("--heads", nargs="+", type=Heads.parse, help="query heads / key heads x head dim, for example 32/8x112")
    parser.add_argument("--batch", type=int, help=f"sequences of a call; by default 1 on a CPU, {CUDA_TOKENS} tokens on CUDA")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="by default all: " + ", ".join(map(repr, NAMES)))
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="by default float32 on a CPU, bfloat16 on CUDA")
    parser.add_argument("--alpha", type=float, default=0.3, help="of the soft mask, between its ends")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--budget", type=float, help="seconds for all measurements; the start of the process comes on top")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of torch")
    parser.add_argument("--out", type=Path, help="folder of the results; by default benchmarks/results/<device>")
    parser.add_argument("--redraw", type=Path, metavar="FOLDER", help="measure nothing: draw the figures of FOLDER/attention.csv again")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here: take --device cpu")
    for name in ("lengths", "batch", "repeats", "threads", "budget"):
        values = getattr(chosen, name)
        if values is not None and min(values if isinstance(values, list) else [values]) <= 0:
            raise UserError(f"--{name}: give a number above 0")
    for name in chosen.variants or ():
        if name not in NAMES:
            raise UserError(f"--variants {name}: choose among {', '.join(NAMES)}")
    if not 0 < chosen.alpha < 1:
        raise UserError(f"--alpha {chosen.alpha:g}: give a value between 0 and 1; at its ends the soft mask is stock attention")
    return chosen


def sweeps_of(chosen: argparse.Namespace) -> list[Sweep]:
    defaults = DEFAULTS[chosen.device]
    lengths = tuple(chosen.lengths or ())
    if chosen.heads is None:
        return [replace(sweep, batch=chosen.batch or sweep.batch, lengths=lengths or sweep.lengths) for sweep in defaults]
    batch = chosen.batch or (1 if chosen.device == "cpu" else None)
    return [Sweep(heads, batch, lengths or defaults[0].lengths) for heads in chosen.heads]


def main(arguments: list[str] | None = None) -> Path:
    """Measure, write, and return the folder of the results.

    Raises:
        UserError: an option that makes no sense.
        RuntimeError: a variant disagrees with the reference.
    """
    chosen = parse(arguments)
    if chosen.redraw:
        rows, facts = read_csv(chosen.redraw / "attention.csv")
        return _draw(rows, facts, chosen.redraw)
    torch.set_num_threads(chosen.threads)
    torch._dynamo.config.recompile_limit = 256  # FlexAttention compiles for every kind of call: past the limit it would run uncompiled
    torch._dynamo.config.automatic_dynamic_shapes = chosen.device == "cuda"  # torch 2.13's C++ for variable lengths does not always compile
    dtype = chosen.dtype or {"cpu": "float32", "cuda": "bfloat16"}[chosen.device]
    common = Setting(PAPER, 1, 1, False, chosen.device, dtype, chosen.alpha, chosen.seed, chosen.threads)
    settings = [setting for sweep in sweeps_of(chosen) for setting in sweep.settings(common)]
    facts = facts_of(common, chosen.repeats, chosen.budget)
    variants = [variant for variant in variants_of(chosen.device) if variant.name in (chosen.variants or NAMES)]
    rows = Benchmark(settings, variants, chosen.repeats, chosen.budget).run()
    folder = folder_of(facts["device"], chosen.out)
    write_csv(rows, facts, folder / "attention.csv")
    (folder / "attention.md").write_text(markdown(rows, facts), encoding="utf-8")
    return _draw(rows, facts, folder)


def _draw(rows: list[Row], facts: dict[str, str], folder: Path) -> Path:
    try:
        from benchmarks.figure import draw
    except ModuleNotFoundError as error:  # a GPU machine that only trains may lack matplotlib
        print(
            f"no figure: {error.name} is not installed; where it is, run python -m benchmarks.attention --redraw {folder}", file=sys.stderr
        )
    else:
        draw(rows, facts, folder)
    return folder


if __name__ == "__main__":
    command(main)
