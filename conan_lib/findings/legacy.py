"""Numbers as text, for topics whose frames do not hold numbers yet; goes with the last of them."""

from collections.abc import Mapping
from typing import Any


def with_interval(row: Mapping[str, Any]) -> str:
    """ "value [low, high]" of a score row, "value" where nobody measured an interval, or why there is no value."""
    if row["value"] is None:
        return f"not measured: {row.get('note') or 'no reason given'}"
    if row.get("low") is None or row.get("high") is None:
        return f"{row['value']:.3f}"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def signed(row: Mapping[str, Any] | None) -> str | None:
    """A paired difference with its sign and interval; None where it was not paired."""
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]" if row else None
