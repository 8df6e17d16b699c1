"""What a checkpoint's vectors know beside the directions that their texts share: cross-lingual and other retrieval after whitening.

A language model's pooled states lie in a narrow cone for each language, and a cosine sees little else. Whitening (Su et al. 2021, arXiv
2103.15316) takes that off with neither labels nor training: with mu and U S U^T the mean and covariance of some training texts' vectors,

    w(x) = S^(-1/2) U^T (x - mu),  scaled to length 1.

The paper has no such step: its models are measured as they are, and so are ours; this is a second look at the same checkpoints.
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from conan_lib.data.records import read_table
from conan_lib.errors import UserError
from conan_lib.evaluation.encoder import Encoder

KINDS = ("crosslingual", "retrieval")
"""Types of task that are scored again: those that find a passage."""
WHITENED = "whitened"
"""Folder of what the whitened checkpoints scored, within the stage's, and its key in the manifest."""
SUFFIX = f"-{WHITENED}"
"""Follows a checkpoint's name there."""
CHARACTERS = 300
"""Of a training text, from its start."""


def training_texts(corpus: Path, per_language: int, seed: int) -> dict[str, list[str]]:
    """Language -> up to `per_language` training texts, drawn by seed; no passage that stands beside its translation.

    Args:
        corpus: the artefact of stage `corpus`.
    """
    table = read_table(corpus / "documents.parquet").select(["text", "lang", "kind", "split"])
    table = table.filter(pc.and_(pc.equal(table["split"], "train"), pc.not_equal(table["kind"], "parallel")))
    rows = defaultdict(list)
    for row, language in enumerate(table["lang"].to_pylist()):
        rows[language].append(row)
    rng = np.random.default_rng(seed)
    return {
        language: [text[:CHARACTERS] for text in table["text"].take(rng.permutation(own)[:per_language]).to_pylist()]
        for language, own in sorted(rows.items())
    }


def shared_directions(vectors: dict[str, np.ndarray]) -> dict[str, float | None]:
    """How much texts have in common, whatever they say.

    Args:
        vectors: language -> unit vectors, shape (N, D).

    Returns:
        mean_cosine: of two texts of different languages, 0 where vectors have no common direction, None of one language.
        language_share: the share of the vectors' variance between the languages' means, each language weighing the same.
    """
    means = np.stack([own.mean(axis=0) for own in vectors.values()]).astype(np.float64)
    within = np.mean([own.astype(np.float64).var(axis=0).sum() for own in vectors.values()])
    between = means.var(axis=0).sum()
    gram = means @ means.T
    pairs = ~np.eye(len(means), dtype=bool)
    return {
        "mean_cosine": float(gram[pairs].mean()) if len(means) > 1 else None,
        "language_share": float(between / (between + within)),
    }


def whitened(encoder: Encoder, texts: list[str]) -> Encoder:
    """The encoder with its vectors whitened by the statistics of `texts`.

    Raises:
        UserError: not more texts than dimensions.
    """
    vectors = encoder.vectors(texts)
    if len(texts) <= vectors.shape[1]:
        raise UserError(
            f"evaluation.whitening_texts: {len(texts)} training texts are too few to whiten {vectors.shape[1]} dimensions: raise it or "
            "data.max_documents, or set it to null"
        )
    fitted = PCA(whiten=True, svd_solver="full").fit(vectors)

    def encode(texts: list[str], is_query: bool) -> np.ndarray:
        return normalize(fitted.transform(encoder.vectors(texts, is_query)))

    meta = encoder.mteb_model_meta
    return Encoder(encode, meta.model_copy(update={"name": f"{meta.name}{SUFFIX}"}), prompts=encoder.model_prompts)
