"""A grid that was run before and committed: its table stands for its cells, whose artefacts are not here.

The table has each cell's mean and its difference to the baseline, so no other two cells can be compared.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from conan_lib.files import read_json
from conan_lib.findings.ablation import Ablation, Estimate
from conan_lib.findings.files import FOLDER, RECORD, committed
from conan_lib.findings.scores import METRIC_NAMES
from conan_lib.findings.tables import HIGH, LOW
from conan_lib.grids import Grid


class Origin(NamedTuple):
    """The run that a committed grid is from: when its last stage had finished, and at which revisions."""

    finished: str
    revisions: list[str]


class CommittedAblation(Ablation):
    """A grid whose numbers come from its committed table.

    Args:
        grid: it has not begun here.
        table: the committed CSV.
        origin: of the table.
    """

    def __init__(self, grid: Grid, table: Path, origin: Origin):
        super().__init__(grid)
        self.table, self.origin = table, origin
        names = {long: short for short, long in METRIC_NAMES.items()}
        rows = pd.read_csv(table).rename(columns={"low": f"mean{LOW}", "high": f"mean{HIGH}"})
        rows = rows.rename(columns={f"minus {grid.params.baseline}{end}": f"difference{end}" for end in ("", LOW, HIGH)})
        self._rows = {(names.get(row["metric"], row["metric"]), row["cell"]): row for row in rows.to_dict("records")}

    def among(self, names: Iterable[str]) -> "CommittedAblation":
        return self

    def comparable(self, names: Iterable[str], metric: str) -> bool:
        return all((metric, name) in self._rows for name in names)

    def contrast(self, weights: Mapping[str, float], metric: str) -> Estimate | None:
        """As of an Ablation; None too for two cells neither of which is the baseline."""
        if not self.comparable(weights, metric):
            return None
        if list(weights.values()) == [1]:
            return self._estimate("mean", metric, *weights)
        others = {name: weight for name, weight in weights.items() if name != self.grid.params.baseline}
        if len(weights) != 2 or len(others) != 1 or sorted(weights.values()) != [-1, 1]:
            return None
        ((name, sign),) = others.items()
        one = self._estimate("difference", metric, name)
        low, high = sorted((sign * one.low, sign * one.high))
        base = self._estimate("mean", metric, self.grid.params.baseline)
        return Estimate(sign * one.value, low, high, one.p, one.seeds, (*base.keys, *one.keys))

    def against(self, metric: str, baseline: str | None = None, others: tuple[str, ...] | None = None) -> dict[str, Estimate]:
        """As of an Ablation, corrected as one family; empty for another baseline than the grid's."""
        return super().against(metric, baseline, others or tuple(name for name in self.grid.names if (metric, name) in self._rows))

    def _estimate(self, column: str, metric: str, name: str) -> Estimate:
        row = self._rows[metric, name]
        value, low, high = (float(row[f"{column}{end}"]) for end in ("", LOW, HIGH))
        p = float("nan") if column == "mean" else float(row["p"])
        return Estimate(value, low, high, p, int(row["seeds"]), tuple(row["artefacts"].split()))


def committed_grid(grid: Grid) -> CommittedAblation | None:
    """A grid's committed table as an Ablation; None where none is committed."""
    folder = committed(grid.params.tier)
    table = folder / FOLDER / f"ablation_{grid.params.name}.csv"
    if not table.is_file() or not (folder / RECORD).is_file():
        return None
    known = read_json(folder / RECORD)
    own = known.get("grids", {}).get(grid.params.name) or known
    return CommittedAblation(grid, table, Origin(own["finished"], own["revisions"]))
