"""README's table of claims says what the committed reports say."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIERS = ("tiny", "smollm2", "gemma3")


def cell(claim: dict) -> str:
    """A verdict in one word, and where it has an interval, effect and interval as README writes numbers."""
    verdict = claim["verdict"].removesuffix(" at this scale")
    if claim["low"] is None:
        return verdict
    sign = "" if claim["id"] == "C8" else "+"  # a share
    value, low, high = (re.sub(r"^([+-]?)0\.", r"\1.", f"{claim[name]:{sign}.3f}") for name in ("effect", "low", "high"))
    return f"{verdict}: {value} [{low}, {high}]"


def test_the_table_of_claims_is_that_of_the_reports():
    reports = [{row["id"]: row for row in json.loads((ROOT / f"reports/{tier}/claims.json").read_text())} for tier in TIERS]
    shown = {match[1]: match[2] for match in re.finditer(r"^\| (C\d+) [^|]*\| (.*) \|$", (ROOT / "README.md").read_text(), re.MULTILINE)}
    assert shown == {id: " | ".join(cell(report[id]) for report in reports) for id in reports[0]}
