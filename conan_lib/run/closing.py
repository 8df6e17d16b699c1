"""The last lines of a run: verdicts, the headline score, the time, the page."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from conan_lib.files import read_json
from conan_lib.stages import Stage


def closing_table(stages: Sequence[Stage], seconds: float, report: Path) -> Table:
    """What a run came to.

    Args:
        stages: of the whole run, finished.
        seconds: that this call took.
        report: the folder of its report.
    """
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for row in (("verdicts", _verdicts(report)), _headline(stages), ("time", _time(stages, seconds)),
                ("page", os.path.relpath(report / "index.html"))):  # fmt: skip
        table.add_row(*row)
    return table


def _verdicts(report: Path) -> str:
    """How many claims have each verdict."""
    file = report / "claims.json"
    verdicts = Counter(claim["verdict"] for claim in read_json(file)) if file.is_file() else {}
    if not verdicts:
        return "none"
    from conan_lib.findings.claim import MEANINGS  # a report was built, so it is imported already

    return ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in MEANINGS if verdicts[verdict])


def _headline(stages: Sequence[Stage]) -> tuple[str, str]:
    """What the last checkpoint's headline score is of, and the score with its interval."""
    from conan_lib.findings.scores import headline

    evaluate = next(stage for stage in stages if stage.name == "evaluate")
    file = evaluate.path / "scores.json"
    found = headline(read_json(file) if file.is_file() else [])
    if found is None:
        return "headline score", "not measured"
    return found.name, f"{found.value:.3f}" + (" [{:.3f}, {:.3f}]".format(*found.interval) if found.interval else "")


def _time(stages: Sequence[Stage], seconds: float) -> str:
    return f"{_minutes(seconds)} in this call, {_minutes(sum(stage.artefact.manifest['seconds'] for stage in stages))} of computing in all"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
