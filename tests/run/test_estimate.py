"""The estimate counts every training stage and grows with its steps; a faster machine needs less."""

import pytest

from conan_lib.model.backbone import configuration
from conan_lib.params import load_params
from conan_lib.run import estimate


def operations(line: str) -> float:
    return float(line.partition(": ")[2].split()[0])


@pytest.fixture
def params(project):
    return load_params("params/small.yaml")


def test_the_estimate_grows_with_every_stage_and_falls_with_the_machine(params, monkeypatch):
    config = configuration(params.backbone, params.tokenizer.vocab_size)
    monkeypatch.setattr(estimate, "matrix_product", lambda *_: 1e15)
    before = estimate.training_time(params, config)
    for name in ("pretrain", "sft", "weak", "supervised"):
        section = getattr(params, name)
        more = params.model_copy(update={name: section.model_copy(update={"max_steps": 9 * section.max_steps})})
        assert operations(estimate.training_time(more, config)) > operations(before)
    monkeypatch.setattr(estimate, "matrix_product", lambda *_: 1e25)
    assert "31 minutes" in before and estimate.training_time(params, config).startswith("less than a minute")
