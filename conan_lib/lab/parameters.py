"""The parameters of a stage as a table, and what another value would compute again."""

import re
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler
from pydantic import BaseModel

from conan_lib.errors import UserError
from conan_lib.findings.tables import show
from conan_lib.params import Params, load_params
from conan_lib.params.load import validate
from conan_lib.stages import Stage, open_stage, resolve, takes_part
from conan_lib.table import RUN

UNITS = {
    "steps": "optimiser steps", "length": "tokens", "chars": "characters", "documents": "documents", "pairs": "pairs", "texts": "texts",
    "records": "records", "verses": "verses", "passages": "passages", "ratio": "share of steps", "share": "share",
    "percentile": "percent", "size": "rows", "ngram": "words", "blocks": "blocks", "candidates": "passages", "corpus": "passages",
    "budget": "pairs", "negatives": "passages", "queries": "queries", "entries": "entries", "layers": "layers", "dims": "channels",
    "languages": "ISO 639-1", "books": "canonical numbers", "neighbours": "texts", "bootstrap": "resamples",
    "language": "texts",
}  # fmt: skip
"""Last word of a parameter's name -> its unit."""
OWN_UNITS = {"tokenizer.vocab_size": "entries", "backbone.hidden_size": "channels", "backbone.ffn_size": "channels"}
PAPER = re.compile(r"(Paper:|Not published|Eq\. |Table |the paper)")


def parameters(*stages: Stage) -> Styler:
    """What the stages' keys hash: parameter, value, unit, meaning, and what the paper has in its place."""
    rows = [row for stage in stages for name in stage.sections for row in _rows(name, getattr(stage, name))]
    return show(pd.DataFrame(rows).drop_duplicates("parameter"), {"value": "none", "unit": "–", "meaning": "–", "in the paper": "–"})


def _rows(place: str, section: BaseModel | None) -> list[dict[str, Any]]:
    if section is None:
        return [{"parameter": place, "value": None, "unit": "", "meaning": "this run leaves the section out", "in the paper": ""}]
    rows = []
    for name, field in type(section).model_fields.items():
        value, path = getattr(section, name), f"{place}.{name}"
        if isinstance(value, BaseModel):
            rows += _rows(path, value)
            continue
        meaning, paper = _told(field.description or "")
        value = f"{value:g}" if isinstance(value, float) else value
        plain = isinstance(getattr(section, name), bool | str | dict)
        unit = "" if plain else OWN_UNITS.get(path, UNITS.get(name.split("_")[-1], ""))
        rows.append({"parameter": path, "value": value, "unit": unit, "meaning": meaning, "in the paper": paper})
    return rows


def _told(description: str) -> tuple[str, str]:
    """The first sentence about the parameter, and the one that says what the paper has."""
    sentences = re.split(r"(?<=[.;])\s+(?=[A-Z0-9(])", " ".join(description.replace("`", "").split()))
    paper = next((sentence for sentence in sentences if PAPER.search(sentence)), "")
    meaning = next((sentence for sentence in sentences if sentence != paper), "")
    return meaning, paper


def changes(params_file: str, **values: Any) -> Styler:
    """What a run would compute again under other values; nothing is computed.

    Args:
        params_file: a parameter file.
        values: section__parameter=value, as in weak__max_steps=60.

    Returns:
        A row for each stage: whether its key, and so its result, stays.

    Raises:
        UserError: no such parameter, or a value outside its range.
    """
    params = load_params(resolve(params_file))
    tree = params.model_dump(mode="json", exclude_none=True)
    for name, value in values.items():
        *path, last = name.split("__")
        inside = tree
        for part in path:
            if not isinstance(inside.get(part), dict):
                raise UserError(f"{'.'.join(path)}: {params_file} has no such section: choose one of {', '.join(sorted(tree))}")
            inside = inside[part]
        inside[last] = value
    other = validate(tree, params_file)
    return show(pd.DataFrame(_compared(params, other)), "none")


def _compared(params: Params, other: Params) -> list[dict[str, Any]]:
    rows = []
    for name in (name for name in RUN if takes_part(name, params)):
        now, then = open_stage(name, params), open_stage(name, other)
        seconds = now.artefact.manifest["seconds"] if now.finished else None
        rows.append(
            {
                "stage": name,
                "key now": now.key,
                "status": now.status,
                "with the change": "kept" if now.key == then.key else "there already" if then.finished else "computed again",
                "seconds it took": seconds,
            }
        )
    return rows
