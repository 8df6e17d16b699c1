"""Our checkpoints, as encoders that mteb and the topics' stages ask."""

from conan_lib.evaluation.encoder import Encoder, own_encoder
from conan_lib.files import read_json
from conan_lib.stages import Stage, open_stage
from conan_lib.table import CHECKPOINTS, START

MODELS = {
    "random": ("pretrain", "random"),
    "pretrained": ("pretrain", "model"),
    "sft": ("sft", "model"),
    "weak": ("weak", "model"),
    "supervised": ("supervised", "model"),
}
"""Our checkpoints in the order of training: input stage and folder in it. Where a run begins from a start, see `checkpoints`."""


def checkpoints(stage: Stage) -> dict[str, tuple[str, str]]:
    """MODELS of this stage's run: where it begins from a start, that stands in the place of `random`, and stages that it passes through
    have no checkpoint of their own."""
    if START not in stage.inputs:
        return MODELS
    trained = [name for name in CHECKPOINTS if getattr(stage.params, name) is not None]
    return {START: (START, "model")} | {name: place for name, place in MODELS.items() if place[0] in trained and name != "random"}


def checkpoint_encoder(stage: Stage, name: str, batch_size: int) -> Encoder:
    """One of `checkpoints`, or what `plain` trained, from a stage that has it and the corpus among its inputs and a section `tasks`."""
    source, folder = (checkpoints(stage) | {"plain": ("plain", "model")})[name]
    artefact = stage.inputs[source]
    sources = read_json(stage.inputs["corpus"].path / "sources.json")
    start = None if stage.params.model is None else open_stage(START, stage.params).results
    return own_encoder(
        name, artefact.path / folder, artefact.key, stage.tasks.max_length, batch_size, stage.device, sources,
        pooling=stage.params.weak.pooling, start=start, prompts=stage.tasks.prompts,
        released=artefact.artefact.manifest["finished_at"][:10],
    )  # fmt: skip
