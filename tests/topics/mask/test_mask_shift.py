"""Pins: the shift is the relative change of mean token states against a stock causal model; `weight` starts at exactly 0 and `logit` does
not; under l/i both readings end where a stock bidirectional model stands, under i/l neither does; a text's padding does not matter; the
rows and the figure hold every reading, ratio and schedule."""

import shutil
from itertools import product

import pytest
import torch
from transformers import LlamaConfig, LlamaModel, Qwen3Config, Qwen3Model

from conan_lib.attention import alpha_at
from conan_lib.errors import UserError
from conan_lib.findings.blocks import Figure
from conan_lib.findings.run import Run
from conan_lib.stages import open_stage
from conan_lib.topics.mask.measure import FRACTIONS, shift_artefact, shift_over_schedules, soft_mask_shift, stored_shift
from conan_lib.topics.mask.show import IN_WORDS, SCHEDULES, hidden_state_shift, shift_block

SIZES = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3, "pad_token_id": 0,
}  # fmt: skip


def model_of(config_class, model_class, attention="soft_mask"):
    torch.manual_seed(0)
    return model_class._from_config(config_class(**SIZES), attn_implementation=attention).eval()


@pytest.fixture
def batch():
    ids = torch.randint(3, 50, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 7:] = mask[1, 4:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


def stock_shift(config_class, model_class, batch) -> float:
    """The change of an abrupt switch, on a model that knows no soft mask, a text at a time."""
    model = model_of(config_class, model_class, "sdpa")
    means = {}
    for causal in (True, False):
        model.config.is_causal = causal
        with torch.no_grad():
            texts = [ids[on.bool()][None] for ids, on in zip(*batch.values(), strict=True)]
            means[causal] = [model(input_ids=text).last_hidden_state.double().mean(1) for text in texts]
    return sum(((b - c).norm() / c.norm()).item() for c, b in zip(means[True], means[False], strict=True)) / len(texts)


@pytest.mark.parametrize("classes", [(LlamaConfig, LlamaModel), (Qwen3Config, Qwen3Model)])
def test_ends_against_a_stock_model(classes, batch):
    model, abrupt = model_of(*classes), stock_shift(*classes, batch)
    shifts = {
        (reading, ratio): soft_mask_shift(model, batch, (0, 0.1, 1), reading, ratio)
        for reading, ratio in product(("weight", "logit"), ("l/i", "i/l"))
    }
    assert abrupt > 0.05
    for reading in ("weight", "logit"):
        assert shifts[reading, "l/i"][-1] == pytest.approx(abrupt, rel=1e-5)
        assert shifts[reading, "i/l"][-1] != pytest.approx(abrupt, rel=1e-3)
    for ratio in ("l/i", "i/l"):
        assert shifts["weight", ratio][0] == 0 < shifts["weight", ratio][1]
        assert shifts["logit", ratio][0] > 0.05  # as printed, alpha = 0 is not causal
    assert shifts["weight", "l/i"][1] > shifts["weight", "i/l"][1]


def test_the_config_is_left_as_it_was(batch):
    model = model_of(LlamaConfig, LlamaModel)
    model.config.soft_mask_reading, model.config.soft_mask_alpha = "logit", 0.7
    soft_mask_shift(model, batch, (0.5,), ratio="i/l")
    settings = model.config.soft_mask_reading, model.config.soft_mask_ratio, model.config.soft_mask_alpha
    assert settings == ("logit", "l/i", 0.7)


def test_a_model_without_the_soft_mask_is_refused(batch):
    with pytest.raises(UserError, match="no model inside LlamaModel uses it"):
        soft_mask_shift(model_of(LlamaConfig, LlamaModel, "sdpa"), batch, (0.5,))


def test_every_reading_ratio_and_schedule_of_a_stage_twice_the_same(ready):
    rows = shift_over_schedules(ready("weak"))
    assert len(rows) == 2 * 3 * 3 * len(FRACTIONS)
    assert all(row["alpha"] == alpha_at(row["fraction"], 1, row["schedule"]) for row in rows)
    by_alpha = {}
    for row in rows:  # a schedule says when, not how far
        assert by_alpha.setdefault((row["reading"], row["ratio"], row["alpha"]), row["shift"]) == row["shift"]
    assert shift_over_schedules(ready("weak")) == rows


def test_the_shift_is_measured_once_and_its_key_holds_what_it_depends_on(ready, monkeypatch):
    stage = ready("weak")
    assert stored_shift(stage) == shift_over_schedules(stage)
    monkeypatch.setattr("conan_lib.topics.mask.measure.shift_over_schedules", lambda stage: [])
    assert stored_shift(stage)
    slower = stage.params.model_copy(update={"weak": stage.weak.model_copy(update={"max_steps": 99})})
    assert stored_shift(ready("weak", slower))  # how long the stage trains moves nothing before its first step
    shorter = stage.params.model_copy(update={"weak": stage.weak.model_copy(update={"max_length": 9})})
    assert stored_shift(ready("weak", shorter)) == []


def test_without_weights_the_report_says_so_unless_it_was_measured_where_they_were(ready, tmp_path):
    """As after a parcel from another machine."""
    run = Run.of(ready("weak").params, "params/small.yaml")
    shutil.copytree(run.stages["sft"].artefact.root, tmp_path / "there", ignore=shutil.ignore_patterns("*.safetensors", "mask_shift"))
    there = run.params.model_copy(update={"runtime": run.params.runtime.model_copy(update={"artefacts": str(tmp_path / "there")})})
    assert "are not here, and it was not measured where they were" in shift_block(Run.of(there, "params/small.yaml")).why
    artefact = shift_artefact(open_stage("weak", run.params))
    stored_shift(run.stages["weak"])
    shutil.copytree(artefact.path, tmp_path / "there/mask_shift" / artefact.path.name)
    assert isinstance(shift_block(Run.of(there, "params/small.yaml")), Figure)


def test_figure(ready):
    stage = ready("weak")
    figure = hidden_state_shift(stage)
    assert [axis.get_title(loc="left") for axis in figure.axes] == [f"α = {formula}" for formula in SCHEDULES.values()]
    rows = shift_over_schedules(stage)
    for schedule, axis in zip(SCHEDULES, figure.axes, strict=True):
        lines = {line.get_label(): line for line in axis.lines}
        assert list(lines) == [
            "abrupt bidirectional",
            *(f"{reading}, {words}" for reading in ("weight", "logit") for words in IN_WORDS.values()),
        ]
        own = [100 * r["shift"] for r in rows if (r["reading"], r["ratio"], r["schedule"]) == ("weight", "l/i", schedule)]
        assert list(lines["weight, length / row"].get_ydata()) == own and own[0] == 0
        assert lines["abrupt bidirectional"].get_ydata()[0] == own[-1]
