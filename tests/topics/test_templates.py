"""A section's template names parameters that exist: a renamed one would show on no page of a run whose stages are missing."""

import re
from functools import reduce
from pathlib import Path

import pytest

import conan_lib.topics
from conan_lib.params import Params

TEMPLATES = sorted(Path(conan_lib.topics.__file__).parent.glob("*/section.md.j2"))
OPTIONAL = {"model"}
"""Sections that a run may have not."""


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.parent.name)
def test_every_parameter_of_a_template_exists(path):
    named = re.findall(r"\bparams((?:\.[a-z_0-9]+)+)", path.read_text(encoding="utf-8"))
    for names in (chain.strip(".").split(".") for chain in named):
        if names[0] not in OPTIONAL:
            reduce(getattr, names, Params(tier="test"))


def test_templates_do_name_parameters():
    assert len(TEMPLATES) > 10 and sum("params." in path.read_text(encoding="utf-8") for path in TEMPLATES) > 3
