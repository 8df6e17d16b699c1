"""Our checkpoints, as encoders that mteb and the topics' stages ask."""

from conan_lib.artefacts import read_json
from conan_lib.evaluation.encoder import Encoder, own_encoder
from conan_lib.stages import Stage

MODELS = {
    "random": ("pretrain", "random"),
    "pretrained": ("pretrain", "model"),
    "sft": ("sft", "model"),
    "weak": ("weak", "model"),
    "supervised": ("supervised", "model"),
}
"""Our checkpoints in the order of training: input stage and folder in it."""


def checkpoint_encoder(stage: Stage, name: str, batch_size: int) -> Encoder:
    """One of MODELS, from a stage that has it and the data among its inputs and a section `tasks`."""
    source, folder = MODELS[name]
    artefact = stage.inputs[source]
    sources = read_json(stage.inputs["data"].path / "sources.json")
    return own_encoder(
        name, artefact.path / folder, artefact.key, stage.tasks.max_length, batch_size, stage.device, sources,
        prompts=stage.tasks.prompts, released=artefact.artefact.manifest["finished_at"][:10],
    )  # fmt: skip
