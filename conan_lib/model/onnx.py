"""A sentence encoder as one ONNX graph: token ids in, unit vectors out, for runtimes without Python's machine-learning libraries.

sentence-transformers' own ONNX backend goes through optimum, which does not run on transformers 5; torch's exporter does.
"""

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from conan_lib.errors import UserError

TOLERANCE = 1e-5
"""Largest difference of one coordinate between the graph's vectors and the model's."""


class _Encoder(nn.Module):
    """The whole chain of a SentenceTransformer as a function of tensors."""

    def __init__(self, model: SentenceTransformer):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, L), (B, L) -> (B, D)."""
        return self.model({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]


def export_onnx(folder: Path, file: Path) -> None:
    """Write the encoder in `folder` as an ONNX file, any batch and any length.

    Inputs input_ids and attention_mask, int64 (batch, sequence), padded on either side; output sentence_embedding, float32 (batch, D):
    pooled, of length 1.

    Args:
        folder: a sentence-transformers folder, as `backbone.export` writes it.
        file: what to write. Weights beyond 2 GB go into a second file beside it.

    Raises:
        UserError: the packages of the extra `onnx` are missing.
        RuntimeError: onnxruntime gives other vectors than the model.
    """
    try:
        import onnx  # noqa: F401  torch's exporter needs it and onnxscript
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"ONNX export: package {error.name} is not installed: pip install -e '.[onnx]' in the checkout") from None
    encoder = _Encoder(SentenceTransformer(str(folder), device="cpu", local_files_only=True)).eval()
    batch = {0: "batch", 1: "sequence"}
    file.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names each optional package that is not there
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            encoder,
            kwargs=_batch(encoder, (5, 3)),
            input_names=["input_ids", "attention_mask"],
            output_names=["sentence_embedding"],
            dynamic_shapes={"input_ids": batch, "attention_mask": batch},
            dynamo=True,
            verbose=False,
        )
        program.save(str(file))
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        for lengths in ((1,), (9, 1, 17)):  # shapes that the graph was not traced with
            inputs = _batch(encoder, lengths)
            (vectors,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
            difference = float(np.abs(vectors - encoder(**inputs).numpy()).max())
            if not difference <= TOLERANCE:
                raise RuntimeError(f"{file}: onnxruntime's vectors differ from the model's by {difference:.1e}")


def _batch(encoder: _Encoder, lengths: tuple[int, ...]) -> dict[str, Tensor]:
    """Token ids of texts of some lengths, padded on the right: input_ids and attention_mask, (B, L)."""
    place = torch.arange(max(lengths))[None]
    mask = (place < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": mask * (place * 7 + 3) % len(encoder.model.tokenizer), "attention_mask": mask}
