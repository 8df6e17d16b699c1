"""Parameters of MKQA by the paper's protocol: passages are judged by the answer strings that they hold."""

from typing import Literal

from pydantic import Field, model_validator

from conan_lib.params.base import Section

LANGUAGES = (
    "ar", "da", "de", "es", "fi", "fr", "he", "hu", "it", "ja", "km", "ko", "ms", "nl", "no", "pl", "pt", "ru", "sv", "th", "tr", "vi",
    "zh_cn", "zh_hk", "zh_tw",
)  # fmt: skip
"""The paper's 25, as the files of the questions spell them."""


class MkqaParams(Section):
    """Where questions and passages come from, and the readings of the protocol. Length, split, seed and resamples are those of `tasks`."""

    source: Literal["embedded", "hub", "files"] = "embedded"
    """hub: the paper's data, 6,619 questions a language over the 2.68M BEIR NQ passages; embedded: held-out trivia questions over Wikipedia
    leads; files: corpus.jsonl and questions.jsonl in `folder`."""
    folder: str = ""
    """With files: the folder, relative to the project root."""
    languages: tuple[str, ...] = Field(LANGUAGES, min_length=1)
    """With hub: languages of the questions. Paper: these 25."""
    leads: Literal["heldout", "all"] = "heldout"
    """With embedded: the leads whose titles no training set holds, or every lead."""
    match: Literal["tokens", "squad"] = "tokens"
    """When a passage holds an answer. tokens: the answer's tokens occur in it in a row, as in the published evaluation of DPR and its
    successors; squad: the same without punctuation and English articles. The paper is silent."""
    passage_text: Literal["lower", "as_is"] = "lower"
    """What the encoder reads of a passage: lower-cased with plain quotes and dashes, as in the published M3 evaluation, or as it is. The
    paper is silent."""
    ideal: Literal["corpus", "retrieved"] = "corpus"
    """Passages that an ideal ranking of nDCG could show: all that hold an answer, or those of them among the top_k. The paper is silent."""
    top_k: int = Field(100, ge=100)
    """Passages that are kept for each question."""
    shard_size: int = Field(100_000, ge=1)
    """Passages of a shard: one file of vectors, at most one is lost by a kill, one is in memory in the search."""
    dtype: Literal["float32", "float16"] = "float32"
    """Vectors on disk; the search computes in float32. float16 halves 38 GB at the paper's size."""
    batch_size: int = Field(128, ge=1)
    """Texts that are encoded at once."""

    @model_validator(mode="after")
    def _files_have_a_folder(self):
        if (self.source == "files") != bool(self.folder):
            raise ValueError("source files and folder belong together: give both, or neither")
        if len(set(self.languages)) != len(self.languages):
            raise ValueError("languages: name each one once")
        return self
