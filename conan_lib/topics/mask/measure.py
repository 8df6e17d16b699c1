"""How far a language model's vectors move from causal towards bidirectional as the soft mask opens: measured, before any training."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel

from conan_lib.artefacts import Artefact
from conan_lib.attention import alpha_at, set_soft_mask
from conan_lib.attention.register import DEFAULTS
from conan_lib.attention.softmask import Ratio, Reading, Schedule
from conan_lib.data.records import read
from conan_lib.files import read_json, write_json
from conan_lib.model.backbone import to_sentence_transformer
from conan_lib.stages import Stage, open_stage
from conan_lib.topics.mixing.texts import choose

FRACTIONS = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Points t/tau of a schedule; close together where most of the change is."""
GROUPS = 3
"""Aligned held-out verses that the shift is measured on, each in every language."""


def soft_mask_shift(
    model: PreTrainedModel, batch: Mapping[str, Tensor], alphas: Sequence[float], reading: Reading = "weight", ratio: Ratio = "l/i"
) -> list[float]:
    """Relative change ||h_alpha - h_causal|| / ||h_causal|| at each alpha, the mean over a batch of texts.

    h is the mean of a text's last hidden states. `weight` at alpha = 0 is causal, so its change is exactly 0 there; under l/i both readings
    are bidirectional at alpha = 1, and what they have there is the change of an abrupt switch.

    Args:
        model: a decoder with attn_implementation="soft_mask"; its config is left as it was found.
        batch: input_ids and attention_mask (B, L), as a tokenizer pads them.
        alphas: values in 0..1.
        reading, ratio: as in `conan_lib.attention.softmask`.

    Raises:
        UserError: the model does not use the soft mask, or a value is outside its range.
    """
    found = {name: getattr(model.config, f"soft_mask_{name}", DEFAULTS[f"soft_mask_{name}"]) for name in ("reading", "ratio")}

    def vectors(alpha: float) -> Tensor:
        states = model(**batch, soft_mask_alpha=alpha, use_cache=False).last_hidden_state
        inside = batch["attention_mask"][..., None]
        return (states * inside).sum(1) / inside.sum(1)

    try:
        with torch.inference_mode():
            set_soft_mask(model, reading="weight", ratio=ratio)
            causal = vectors(0.0)
            set_soft_mask(model, reading=reading)
            return [((vectors(alpha) - causal).norm(dim=-1) / causal.norm(dim=-1)).mean().item() for alpha in alphas]
    finally:
        set_soft_mask(model, **found)


def shift_artefact(stage: Stage) -> Artefact:
    """Where the shift of the model that stage `weak` starts from is kept: its key holds all that it depends on.

    It is no stage of a run: nothing is made from it, and only the figure reads it."""
    read = {name: getattr(stage.weak, name) for name in ("pooling", "max_length", "seed")}
    inputs = {"sft": stage.inputs["sft"].artefact, "heldout": open_stage("heldout", stage.params).artefact}
    return Artefact("mask_shift", 1, {"weak": read, "groups": GROUPS, "fractions": FRACTIONS}, inputs, stage.artefact.root)


def stored_shift(stage: Stage) -> list[dict]:
    """What `shift_over_schedules` gives, measured once.

    Raises:
        UserError: the stages before have not finished.
    """
    artefact = shift_artefact(stage)
    if not artefact.finished:
        with artefact.work() as work:
            if not artefact.finished:
                write_json(artefact.path / "shift.json", shift_over_schedules(stage))
                work.commit({})
    return read_json(artefact.path / "shift.json")


def shift_over_schedules(stage: Stage) -> list[dict]:
    """The shift of the model that stage `weak` starts from, under every reading, ratio and schedule, at FRACTIONS of the schedule.

    Measured on GROUPS verses in every language, cut at the stage's own max_length. Nothing is trained: the weights stay as they are, and
    what moves the vectors is the mask alone.

    Returns:
        Rows {reading, ratio, schedule, fraction, alpha, shift}.

    Raises:
        UserError: the stages before have not finished.
    """
    model, batch = _start_of(stage)
    points = [(schedule, fraction, alpha_at(fraction, 1, schedule)) for schedule in get_args(Schedule) for fraction in FRACTIONS]
    alphas = sorted({alpha for *_, alpha in points})
    rows = []
    for reading, ratio in product(get_args(Reading), get_args(Ratio)):
        shift = dict(zip(alphas, soft_mask_shift(model, batch, alphas, reading, ratio), strict=True))
        rows += [
            {"reading": reading, "ratio": ratio, "schedule": schedule, "fraction": fraction, "alpha": alpha, "shift": shift[alpha]}
            for schedule, fraction, alpha in points
        ]
    return rows


def _start_of(stage: Stage) -> tuple[PreTrainedModel, dict[str, Tensor]]:
    """The language model in front of the stage's first step, and the verses as a padded batch."""
    section, device = stage.weak, stage.runtime.device
    verses = choose(read(open_stage("heldout", stage.params).path / "mixing.parquet"), "held-out verses", GROUPS, section.seed)
    folder, device = stage.inputs["sft"].path / "model", None if device == "auto" else device
    encoder = to_sentence_transformer(folder, section.pooling, section.max_length, "soft_mask", device=device)
    tokens = encoder.tokenizer(verses.texts, padding=True, truncation=True, max_length=section.max_length, return_tensors="pt")
    model = encoder[0].model.eval()
    return model, {name: tokens[name].to(model.device) for name in ("input_ids", "attention_mask")}
