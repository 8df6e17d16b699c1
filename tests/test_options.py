"""Invariants: a mistake in options that a call makes is one line, with the key that was meant; thresholds are cosines; in a parameter file
the same mistake opens with its place there; options that a validator makes are its own mistake."""

import math

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from conan_lib.errors import UserError
from conan_lib.options import DhnmOptions, SoftMaskOptions
from conan_lib.params.load import validate
from conan_lib.params.training import MineParams, SupervisedParams

MISTAKES = {
    "^DhnmOptions: flor: unknown key, did you mean floor[?]$": (DhnmOptions, {"flor": 0.3}),
    r"^DhnmOptions: floor: Input should be less than or equal to 1 \(given: 40\)$": (DhnmOptions, {"floor": 40}),
    "^DhnmOptions: floor: Input should be a finite number": (DhnmOptions, {"floor": math.nan}),
    "^DhnmOptions: ceiling: Input should be greater than or equal to -1": (DhnmOptions, {"ceiling": -1.1}),
    "^DhnmOptions: v1_ceiling: Input should be greater than or equal to 0": (DhnmOptions, {"v1_ceiling": -0.5}),
    "^DhnmOptions: margin: Input should be greater than or equal to -2": (DhnmOptions, {"margin": -3}),
    "^DhnmOptions: margin: Input should be less than or equal to 2": (DhnmOptions, {"margin": 2.5}),
    "^DhnmOptions: remine_interval: give the steps between": (DhnmOptions, {"rule": "remined"}),
    "^SoftMaskOptions: schedule: Input should be 'linear', 'quadratic' or": (SoftMaskOptions, {"schedule": "cubic"}),
    "^SupervisedParams: dhnm.flor: unknown key, did you mean floor[?]$": (SupervisedParams, {"dhnm": {"flor": 0.3}}),
    "^MineParams: candidate: unknown key, did you mean candidates[?]$": (MineParams, {"candidate": 3}),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_in_a_call_is_one_line(message):
    options, values = MISTAKES[message]
    with pytest.raises(UserError, match=message) as caught:
        options(**values)
    assert "\n" not in str(caught.value)


def test_the_ends_of_the_ranges_are_taken():
    low, high = DhnmOptions(floor=-1, ceiling=-1, v1_ceiling=0, margin=0), DhnmOptions(floor=1, ceiling=1, v1_ceiling=1, margin=2)
    assert (low.floor, high.margin) == (-1, 2)


@pytest.mark.parametrize(("key", "wrong"), [("floor", 40), ("margin", -3), ("ceiling", math.nan)])
def test_in_a_file_the_same_mistake_opens_with_its_place(key, wrong):
    with pytest.raises(UserError, match=rf"^my.yaml: supervised.dhnm.{key}: Input should be .* \(given: {wrong}\)$"):
        validate({"tier": "x", "supervised": {"dhnm": {key: wrong}}}, "my.yaml")


def test_options_that_a_validator_makes_are_its_own_mistake():
    class Outer(BaseModel):
        dhnm: dict

        @field_validator("dhnm")
        @classmethod
        def made(cls, value):
            return DhnmOptions(**value)

    with pytest.raises(ValidationError, match=r"dhnm\n.*DhnmOptions: flor: unknown key"):
        Outer(dhnm={"flor": 1})
