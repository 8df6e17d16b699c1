"""Pins: every asked cell of the benchmark has a row, measured or with its reason; ratios are medians of paired repeats; a variant that
disagrees with the reference stops the run; the halves' memory is linear in L where the reference's is not; the files can be read back."""

import statistics
from dataclasses import replace
from itertools import product

import pytest
import torch

from benchmarks import attention, measure, variants
from benchmarks.results import Row, read_csv
from benchmarks.variants import STOCK, Heads, Setting, Variant, check, variants_of
from conan_lib.errors import UserError
from conan_lib.topics.speed import timing

SMALL = Setting(Heads(2, 1, 8), 2, 24, True)
COMPILED = "FlexAttention"


@pytest.fixture
def quick(monkeypatch):
    """The smallest repeats, and memory measured in no process of its own."""
    monkeypatch.setattr(attention, "peak_memory", lambda variant, setting: (1.5, ""))
    torch_settings = torch.get_num_threads(), torch._dynamo.config.recompile_limit, torch._dynamo.config.automatic_dynamic_shapes
    yield
    torch.set_num_threads(torch_settings[0])
    torch._dynamo.config.recompile_limit, torch._dynamo.config.automatic_dynamic_shapes = torch_settings[1:]


def test_every_cell_has_a_row_and_the_files_are_written(tmp_path, quick):
    names = [name for name in attention.NAMES if name not in (COMPILED, variants.FLASH)]
    command = ["--device", "cpu", "--heads", "2/1x8", "2/2x8", "--lengths", "32", "16", "--repeats", "4", "--threads", "1"]
    folder = attention.main([*command, "--variants", *names, "--out", str(tmp_path)])
    rows, facts = read_csv(folder / "attention.csv")
    asked = [variant for variant in variants_of("cpu") if variant.name in names]
    assert len(rows) == 2 * 2 * 2 * len(asked)
    assert {(r.heads, r.length, r.direction, r.variant, r.reading) for r in rows} == {
        (heads, length, direction, variant.name, variant.reading)
        for heads, length, direction, variant in product(("2/1x8", "2/2x8"), (16, 32), ("forward", "forward + backward"), asked)
    }
    assert all(r.repeats == 4 and 0 < r.ms_q1 <= r.ms <= r.ms_q3 and r.note == "measured" and r.baseline == STOCK for r in rows)
    assert all((r.ratio, r.ratio_q1, r.ratio_q3) == (1, 1, 1) for r in rows if r.variant == STOCK)
    assert {"device", "torch", "date", "dtype", "seed", "revision"} <= set(facts) and facts["dtype"] == "float32"
    table = (folder / "attention.md").read_text()
    assert table.count("| SDPA causal |") == 4 and "|  |" not in table and "None" not in table
    for name in ("2_1x8", "2_2x8"):
        figure = folder / f"attention_{name}.svg"
        assert all(label in figure.read_text() for label in ("ours, halves (logit)", "peak memory (MB)", "time / bidirectional"))
        figure.unlink()
    attention.main(["--redraw", str(folder)])
    assert (folder / "attention_2_2x8.svg").is_file()


def test_what_is_not_measured_says_why(quick, monkeypatch):
    assert check(Variant(COMPILED, "weight"), SMALL) == "FlexAttention has no backward pass on the CPU"
    chosen = [Variant("reference", "weight"), Variant(STOCK)]
    with monkeypatch.context() as patch:
        patch.setattr(attention, "available_bytes", lambda device: 10_000)
        rows = attention.Benchmark([SMALL], chosen, 3).run()
    assert [row.ms is None for row in rows] == [True, False]
    assert rows[0].note.startswith("does not fit") and rows[0].cell == rows[0].note == rows[0].memory_note
    rows = attention.Benchmark([SMALL], chosen, 3, budget=1e-9).run()
    assert {row.note for row in rows} == {attention.TIME_LEFT} and {row.baseline for row in rows} == {"-"}
    late = attention.Benchmark([SMALL], chosen, 3, budget=100)
    late.last[chosen[0], SMALL.heads, True] = 1.0  # an earlier length: a second for each token squared
    assert [row.note[:12] for row in late.run()] == ["not measured", "measured"]


def test_ratios_are_medians_of_paired_repeats(quick, monkeypatch):
    slow, base = Variant("reference", "weight"), Variant(STOCK)
    seconds = {slow: [2.0, 9.0, 4.0], base: [1.0, 3.0, 4.0]}
    monkeypatch.setattr(attention, "take_turns", lambda *_: seconds)
    row, _ = attention.Benchmark([SMALL], [slow, base], 3).run()
    assert row.ratio == statistics.median([2.0, 3.0, 1.0]) and row.ms == 4000


def test_each_repeat_calls_each_once():
    called = []
    calls = {name: lambda name=name: called.append(name) for name in "abc"}
    seconds = timing.take_turns(calls, 5, "cpu", seed=0, deadline=float("inf"))
    assert {len(times) for times in seconds.values()} == {5}
    turns = [tuple(called[i : i + 3]) for i in range(0, 15, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns) and len(set(turns)) > 1
    assert {len(times) for times in timing.take_turns(calls, 5, "cpu", 0, deadline=0).values()} == {timing.LEAST_REPEATS}


@pytest.mark.parametrize("variant", [v for v in variants_of("cpu") if v.name != COMPILED], ids=str)
def test_each_variant_agrees_with_float64(variant):
    assert check(variant, SMALL) == ""


def test_a_variant_that_disagrees_stops_the_run(monkeypatch):
    right = variants.attend
    monkeypatch.setattr(variants, "attend", lambda variant, q, k, v, mask: right(variant, q, k, v, mask) * 1.001)
    with pytest.raises(RuntimeError, match=r"SDPA bidirectional.*output differs from the reference by 1\.0e-03"):
        attention.Benchmark([SMALL], [Variant(STOCK)], 3).run()


def test_only_reasons_are_swallowed():
    assert variants.reason(Variant(STOCK), torch.OutOfMemoryError("CUDA")) == "out of memory"
    assert variants.reason(Variant(COMPILED, "logit"), OSError("no compiler\nat all")) == "does not run here: OSError: no compiler"
    assert variants.reason(Variant(variants.FLASH), RuntimeError("No available kernel. Aborting.")).startswith("torch has no such kernel")
    with pytest.raises(RuntimeError, match="a bug"):
        variants.reason(Variant("ours, halves", "weight"), RuntimeError("a bug"))


def test_memory_of_a_process_of_its_own_shows_what_is_linear():
    def peak(name: str, length: int) -> float:
        setting = replace(SMALL, heads=Heads(2, 2, 32), batch=1, length=length)
        value, why = measure.peak_memory(Variant(name, "weight"), setting)
        assert why == ""
        return value

    reference = peak("reference", 2048)
    assert reference > 2048**2 * 2 * 4 * 3 / 1e6  # logits, weights and their gradients of two heads in float32
    short, long = peak("ours, halves", 2048), peak("ours, halves", 8192)
    assert short < reference / 10 and long < reference / 2


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--heads", "32-8"], "32/8x112"),
        (["--heads", "6/4x8"], "key heads divide query heads"),
        (["--lengths", "0"], "--lengths: give a number above 0"),
        (["--alpha", "1"], "stock attention"),
        (["--variants", "fast"], "choose among reference"),
    ],
)
def test_mistakes(command, message):
    with pytest.raises(UserError, match=message):
        attention.main(["--device", "cpu", *command])


def test_a_cell_is_never_blank():
    row = Row("2/2x8", 1, 16, "float32", "forward", "reference", "weight", note="out of memory")
    assert row.cell == "out of memory"
    row = replace(row, ms=1.234, ms_q1=1.0, ms_q3=2.0, memory_note="needs Linux")
    assert row.cell == "1.23 ms [1–2]<br>needs Linux"
