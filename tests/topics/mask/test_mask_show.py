"""Pins: the mask's figures show the stage's own schedule at its own steps, for both ratios."""

import pytest

from conan_lib.stages import open_stage
from conan_lib.topics.mask.show import alpha_schedules, mask_heatmaps


@pytest.fixture
def stage(project):
    (project / "params" / "square.yaml").write_text("tier: square\nweak: {max_steps: 40, soft_mask: {schedule: quadratic}}\n")
    return open_stage("weak", "params/square.yaml")


def test_heat_maps(stage):
    figure = mask_heatmaps(stage, length=6)
    panels = [axis for axis in figure.axes if axis.images]
    assert len(panels) == 2 * 4, "a step in which two shares of the schedule fall is shown once"
    assert [axis.get_title(loc="left") for axis in panels[:4]][-2:] == ["t = 20, α = 0.25", "t = 40, α = 1.00"]
    shown = [axis.images[0].get_array() for axis in panels]
    assert shown[0][0, 1:].max() == 0 and shown[0][-1].min() == 1
    assert shown[3].min() == 1  # l/i ends bidirectional
    assert shown[7].min() == pytest.approx(1 / 6)  # i/l does not


def test_schedules(stage):
    figure = alpha_schedules(stage, length=8)
    left, right = figure.axes
    thick = [line for line in left.lines if line.get_linewidth() > 2]
    assert [line.get_label() for line in thick] == ["(t/τ)² (this run)"]
    assert [thick[0].get_ydata()[step] for step in (0, 20, 40)] == [0, 0.25, 1]
    assert len(right.lines) == 6 and right.lines[0].get_ydata()[-1] == 1
