"""Where the embedder puts your own sentence: its neighbours, a cut vector, its place among the languages."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from sentence_transformers import SentenceTransformer

from conan_lib.data.records import read
from conan_lib.evaluation.encoder import load_sentence_transformer
from conan_lib.findings.plots import Drawing, language_colours, style
from conan_lib.lab.finished import finished
from conan_lib.lab.tables import texts
from conan_lib.stages import Stage
from conan_lib.topics.mixing.measure import MODELS
from conan_lib.topics.mixing.show import ARMS
from conan_lib.topics.speed.quality import truncate

PLACED_BY = 5
"""Nearest texts whose points place a new one on the plane."""


def neighbours(evaluate: Stage, text: str, channels: int | None = None, count: int = 6) -> Styler:
    """The held-out verses, or other held-out texts, nearest to a text, in all languages, by the supervised model.

    Args:
        evaluate: a stage made from `heldout` and `supervised`.
        channels: the vector is cut to its first so many, scaled to length 1 again; None: the whole vector.
    """
    rows = read(evaluate.needs("heldout") / "mixing.parquet")
    vectors, own = _vectors(evaluate.needs("supervised") / "model", [row["text"] for row in rows], text)
    scores = truncate(vectors, channels) @ truncate(own[None], channels)[0]
    best, whole = np.argsort(-scores)[:count], set(np.argsort(-(vectors @ own))[:count].tolist())
    found = [{"cosine": float(scores[i]), "lang": rows[i]["lang"], "text": rows[i]["text"], "with the whole vector too": i in whole}
             for i in best.tolist()]  # fmt: skip
    return texts(pd.DataFrame(found))


def on_the_map(mix: Stage, text: str) -> Drawing:
    """The UMAP pictures with a text of yours as a star.

    UMAP is not fitted again: the star is the mean of the points of the PLACED_BY nearest texts, weighted by cosine.
    """
    points = read(finished(mix) / "points.parquet")
    colours = language_colours(sorted({row["lang"] for row in points}))
    with style():
        drawing = Drawing(figsize=(10.2, 4.6))
        for axis, arm in zip(drawing.subplots(1, 2), ARMS, strict=True):
            rows = [row for row in points if row["model"] == arm]
            vectors, own = _vectors(mix.needs(MODELS[arm]) / "model", [row["text"] for row in rows], text)
            plane, scores = np.array([(row["x"], row["y"]) for row in rows]), vectors @ own
            for language, colour in colours.items():
                x, y = plane[[row["lang"] == language for row in rows]].T
                axis.scatter(x, y, s=9, color=colour, label=language, alpha=0.5, linewidths=0)
            near = np.argsort(-scores)[:PLACED_BY]
            star = np.average(plane[near], axis=0, weights=np.maximum(scores[near], 1e-6))
            axis.scatter(*star, marker="*", s=260, color="black", label="your text", zorder=3)
            nearest = " ".join(rows[i]["lang"] for i in near)
            axis.set(title=f"{arm}; nearest: {nearest}", xlabel="UMAP 1", ylabel="UMAP 2", xticks=[], yticks=[])
        drawing.legend(*axis.get_legend_handles_labels(), loc="outside right center", markerscale=0.9)
        return drawing


def _vectors(folder: Path, known: list[str], text: str) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (N, D) of texts, encoded once for a folder, and (D,) of the new one."""
    return _encoded(folder, tuple(known)), _encode(folder, [text])[0]


@lru_cache(maxsize=4)
def _encoded(folder: Path, known: tuple[str, ...]) -> np.ndarray:
    return _encode(folder, list(known))


@lru_cache(maxsize=4)
def model_in(folder: Path) -> SentenceTransformer:
    """A stage's model, loaded once; on the CPU, where a sentence takes no time."""
    return load_sentence_transformer(folder, 128, "cpu")


def _encode(folder: Path, found: list[str]) -> np.ndarray:
    return model_in(folder).encode(found, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False).astype(np.float64)
