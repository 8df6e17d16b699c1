"""Pins: the v2 and v1 rules as printed; the whole rule is a function of two scores and the iteration."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conan_lib.negatives import DhnmOptions, replace_v1, replace_v2, replaced


@pytest.mark.equation("dhnm_v2")
@pytest.mark.parametrize(
    ("initial", "current", "replaced"),
    [
        (0.39, 0.9, True),  # S_0 below 0.4, whatever it is now
        (0.4, 0.4, False),
        (0.8, 0.66, True),  # 1.2 * 0.66 = 0.792 < 0.8 and 0.66 < 0.7
        (0.8, 0.67, False),  # 1.2 * 0.67 = 0.804
        (0.9, 0.71, False),  # fell far enough, but still above 0.7
        (math.nan, 0.1, False),  # no S_0 yet
    ],
)
def test_rule_v2(initial, current, replaced):
    assert replace_v2(torch.tensor(initial), torch.tensor(current)).item() is replaced


@pytest.mark.equation("dhnm_v1")
@pytest.mark.parametrize(
    ("initial", "current", "replaced"), [(0.8, 0.69, True), (0.8, 0.7, False), (0.99, 0.81, False), (0.1, 0.05, True), (0.9, -0.85, False)]
)
def test_rule_v1(initial, current, replaced):
    assert replace_v1(torch.tensor(initial), torch.tensor(current)).item() is replaced


@pytest.mark.equation("dhnm_v2")
@pytest.mark.equation("dhnm_v1")
@settings(max_examples=60, deadline=None)
@given(
    rule=st.sampled_from(["v2", "v1", "static", "random", "remined"]),
    initial=st.floats(-1, 1, width=32) | st.just(math.nan),
    current=st.floats(-1, 1, width=32) | st.just(math.nan),
    iteration=st.integers(1, 12),
)
def test_the_rule_is_a_function_of_two_scores_and_the_iteration(rule, initial, current, iteration):
    options = DhnmOptions(rule=rule, v1_interval=4, remine_interval=9 if rule == "remined" else None)
    s0, s = torch.tensor(initial), torch.tensor(current)  # products in fp32, as the scores are
    wanted = {
        "v2": float(s0) < 0.4 or (float(1.2 * s) < float(s0) and float(s) < 0.7),
        "v1": iteration in (4, 8, 12) and float(1.15 * s) < float(s0) and abs(float(s)) < 0.8,
    }
    if not any(abs(float(s0) - edge) < 1e-6 or abs(abs(float(s)) - edge) < 1e-6 for edge in (0.4, 0.7, 0.8)):  # fp32 of the thresholds
        assert replaced(s0, s, iteration, options).item() is wanted.get(rule, False)
