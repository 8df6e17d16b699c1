"""A benchmark's results as files: where they go; of attention a CSV with every cell, and a Markdown table."""

import csv
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import torch

from conan_lib.environment import environment
from conan_lib.errors import UserError


def folder_of(device: str, out: Path | None) -> Path:
    """`out`, or benchmarks/results/<device>; made here."""
    folder = out or Path(__file__).parent / "results" / re.sub(r"[^a-z0-9]+", "-", device.lower())
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def where(device: str, threads: int) -> dict[str, str]:
    """Where and when numbers are made; `device` is cpu or cuda."""
    found = environment()
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "machine": f"{found['machine']}, {threads} threads",
        "python": found["python"],
        "revision": found["revision"] or "no checkout",
        "date": datetime.now(UTC).date().isoformat(),
    }


def quartiles(values: Sequence[float]) -> list[float]:
    """Of one value it is all three."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else list(values) * 3


def command(main: Callable[[], Path]) -> None:
    """Print where the results are, or a mistake in one line."""
    try:
        print(main())
    except UserError as error:
        sys.exit(f"benchmark: {error}")


@dataclass(frozen=True)
class Row:
    """One cell: a variant at one size in one direction. Where a number is None, `note` or `memory_note` says why."""

    heads: str
    batch: int
    length: int
    dtype: str
    direction: str
    variant: str
    reading: str
    repeats: int = 0
    ms: float | None = None
    """Median over the repeats, in milliseconds; then the quartiles."""
    ms_q1: float | None = None
    ms_q3: float | None = None
    ratio: float | None = None
    """Median over the repeats of this variant's time divided by that of the bidirectional baseline in the same repeat."""
    ratio_q1: float | None = None
    ratio_q3: float | None = None
    baseline: str = "-"
    peak_mb: float | None = None
    note: str = "measured"
    memory_note: str = "measured"

    @property
    def label(self) -> str:
        return self.variant if self.reading == "-" else f"{self.variant} ({self.reading})"

    @property
    def cell(self) -> str:
        """What the Markdown table says; never blank."""
        if self.ms is None:
            return self.note
        ratio = "" if self.ratio is None else f"**{self.ratio:.2f}** [{self.ratio_q1:.2f}–{self.ratio_q3:.2f}]<br>"
        memory = self.memory_note if self.peak_mb is None else f"{_short(self.peak_mb)} MB" if self.peak_mb > 0.1 else "< 0.1 MB"
        return f"{ratio}{_short(self.ms)} ms [{_short(self.ms_q1)}–{_short(self.ms_q3)}]<br>{memory}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def write_csv(rows: list[Row], facts: dict[str, str], path: Path) -> None:
    """Every cell; the facts of the run stand in front, each on a line that begins with #."""
    with path.open("w", newline="", encoding="utf-8") as file:
        file.writelines(f"# {name}: {value}\n" for name, value in facts.items())
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def read_csv(path: Path) -> tuple[list[Row], dict[str, str]]:
    """What `write_csv` wrote."""
    lines = path.read_text(encoding="utf-8").splitlines()
    facts = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    kinds = {field.name: field.type for field in fields(Row)}
    read = {int: int, str: str, float | None: lambda text: float(text) if text else None}
    records = csv.DictReader(line for line in lines if not line.startswith("# "))
    return [Row(**{name: read[kinds[name]](text) for name, text in record.items()}) for record in records], facts


def markdown(rows: list[Row], facts: dict[str, str]) -> str:
    """A table for every kind of heads and direction: a line for each variant, a column for each length."""
    text = ["# Soft-mask attention: time and memory", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    text += [
        "A cell: time divided by that of the bidirectional baseline in the same repeat, milliseconds per call, peak memory per call beyond",
        "its inputs (its mask included); medians, quartiles in brackets. Masks are made before the clock starts: all layers share one.",
    ]
    for heads, direction in distinct((row.heads, row.direction) for row in rows):
        own = [row for row in rows if (row.heads, row.direction) == (heads, direction)]
        columns = distinct((row.length, row.batch) for row in own)
        baselines = distinct(row.baseline for row in own if row.baseline != "-")
        text += ["", f"## {direction}, heads {heads} ({own[0].dtype}; baseline {', '.join(baselines) or 'not measured'})", ""]
        text += ["| variant | " + " | ".join(f"L {length}, B {batch}" for length, batch in columns) + " |"]
        text += ["|---|" + "---:|" * len(columns)]
        cells = {(row.label, row.length, row.batch): row.cell for row in own}
        text += [
            f"| {label} | " + " | ".join(cells[label, *column] for column in columns) + " |" for label in distinct(r.label for r in own)
        ]
    return "\n".join(text) + "\n"


def distinct(values) -> list:
    """The values once each, in order."""
    return list(dict.fromkeys(values))
