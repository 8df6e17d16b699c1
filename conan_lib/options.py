"""Typed, frozen options of the method: what the soft mask and the dynamic negatives leave open. No torch, no parameter file.

The parameter tree uses them as sections; whoever takes a piece of the method away takes its options with it.
"""

import difflib
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from conan_lib.errors import UserError

SHOWN = 5
"""Mistakes that one line names."""
LONGEST = 100
"""Characters of a given key or value that one line shows."""


class WrongOptions(UserError, ValueError):
    """A ValueError too, so that a validator which makes options tells their mistake as its own."""


class _Called(type(BaseModel)):
    """Options made by a call tell a mistake in one line. `model_validate`, whose caller knows a better place, leaves it to that caller."""

    def __call__(cls, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise WrongOptions(f"{cls.__name__}: {mistakes(error, cls)}") from None


class Options(BaseModel, metaclass=_Called):
    """A frozen group of options. Unknown keys are errors, numbers are finite, defaults are validated, docstrings under fields
    become their description.

    Raises:
        UserError: a key is unknown, mistyped or impossible, in a call; pydantic's own ValidationError in `model_validate`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _values_are_what_they_seem(cls, value: Any, info: ValidationInfo) -> Any:
        keys, items = (value, value.values()) if isinstance(value, dict) else ((), value if isinstance(value, (list, tuple)) else [value])
        kinds = types(cls.model_fields[info.field_name].annotation)
        if any(isinstance(item, bool) for item in items) and kinds & {int, float}:  # pydantic reads true as 1
            raise ValueError(f"{next(item for item in items if isinstance(item, bool))} is not a number: give one")
        for item in (*keys, *items):
            if isinstance(item, str) and str in kinds and ("\0" in item or any("\ud800" <= letter <= "\udfff" for letter in item)):
                raise ValueError(f"{item!r} holds a character that is not text: remove it")
        return value


def types(annotation: Any) -> set:
    """A type and those that it is made of: {int, tuple[int, ...]} of tuple[int, ...]."""
    return {annotation}.union(*map(types, get_args(annotation)))


class SoftMaskOptions(Options):
    """The soft mask M_ij = 1 (j <= i), min(alpha(t) * l/i, 1) (j > i), and the readings that the paper leaves open."""

    attention: Literal["soft", "causal", "bidirectional"] = "soft"
    """soft: alpha follows the schedule; causal: alpha = 0 throughout; bidirectional: abrupt, alpha = 1 throughout."""
    schedule: Literal["linear", "quadratic", "inverse_quadratic"] = "linear"
    """alpha(t): t/tau, (t/tau)^2, 1 - (1 - t/tau)^2 (the paper's Table 12)."""
    reading: Literal["weight", "logit"] = "weight"
    """weight: softmax(S + log M), whose endpoints are causal and bidirectional; logit: softmax(S * M), as printed, not causal at 0."""
    ratio: Literal["l/i", "i/l", "uniform"] = "l/i"
    """The factor beside alpha; i/l is what the translation prints, and is never fully bidirectional. uniform: no factor, one log bias for
    all future positions (GG-SM, arXiv 2602.10622)."""


class DhnmOptions(Options):
    """Dynamic hard negative mining (Eq. 6): S_0 is the score when the negative came in, S_i its score now. Scores are cosines."""

    rule: Literal["v2", "v1", "static", "random", "remined"] = "v2"
    """v2: replace if S_0 < floor, or ratio*S_i < S_0 and S_i < ceiling. v1: every `v1_interval` iterations, 1.15*S < S_0 and |S| < 0.8.
    static: never replace. random: negatives drawn anew at each visit. remined: the model as it is ranks the corpus anew every
    `remine_interval` steps, and the best ranks are used (ANCE; costly)."""
    floor: float = Field(0.4, ge=-1, le=1)
    """v2: a negative whose S_0 is below this is replaced. Paper: 0.4."""
    ratio: float = Field(1.2, gt=1)
    """v2: a negative is replaced once this times its score is below S_0. Paper: 1.2."""
    ceiling: float = Field(0.7, ge=-1, le=1)
    """v2: a negative with at least this score is still hard and stays, unless S_0 < floor. Paper: 0.7."""
    v1_interval: int = Field(100, ge=1)
    """v1: iterations between two checks. Conan-v1: 100."""
    v1_ratio: float = Field(1.15, gt=1)
    """v1: the same as `ratio`. Conan-v1: 1.15."""
    v1_ceiling: float = Field(0.8, ge=0, le=1)
    """v1: the same as `ceiling`, of the absolute score. Conan-v1: 0.8."""
    remine_interval: int | None = Field(None, ge=1)
    """Optimiser steps between two searches of the corpus; rule remined needs it."""
    margin: float | None = Field(None, ge=-2, le=2)
    """Guard against false negatives: a hard negative that scores above its positive less this margin is left out of that step's loss, and
    v2 and v1 replace it. None: no guard, as in the paper."""

    @model_validator(mode="after")
    def _remined_has_an_interval(self):
        if (self.rule == "remined") != (self.remine_interval is not None):
            raise ValueError("remine_interval: give the steps between two searches with rule remined, and with no other rule")
        return self


def mistakes(error: ValidationError, tree: type[BaseModel]) -> str:
    """pydantic's errors in one line, the first few of many, without a length that is wrong only because an item is."""
    found = error.errors()
    places = [e["loc"] for e in found]

    def follows(e) -> bool:
        return e["type"] == "too_short" and any(len(e["loc"]) < len(loc) and loc[: len(e["loc"])] == e["loc"] for loc in places)

    lines = [_mistake(e, tree) for e in found if not follows(e)]
    more = [f"and {len(lines) - SHOWN} more mistakes"] if len(lines) > SHOWN else []
    return "; ".join(lines[:SHOWN] + more)


def _mistake(error: dict, tree: type[BaseModel]) -> str:
    """One of pydantic's errors as `section.key: what, and the mend`."""
    place = ".".join(short(str(part)) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1], tree)
        close = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        return f"{place}: unknown key" + (f", did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{place}: {message}" if place else message
    line = f"{place}: {message} (given: {short(repr(error['input']))})"
    if error["type"] == "string_type" and isinstance(error["input"], bool):  # Norwegian's code
        line += f': YAML reads a bare {"yes" if error["input"] else "no"} so: quote it ("{"yes" if error["input"] else "no"}")'
    return line


def short(text: str) -> str:
    """A given key or value as one line shows it."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _known_keys(loc: tuple, section: type[BaseModel]) -> list[str]:
    for part in loc:
        if (field := section.model_fields.get(part)) is None:
            continue  # a key of a dictionary of sections
        inner = [kind for kind in types(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not inner:
            return []
        section = inner[0]
    return list(section.model_fields)
