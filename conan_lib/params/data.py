"""Parameters of the data stage."""

from typing import Literal

from pydantic import Field, model_validator

from conan_lib.params.base import Section


class DataParams(Section):
    """Where text comes from, how it is cleaned and split, and how large each set is."""

    source: Literal["embedded", "hub"] = "embedded"
    """embedded: text that ships in packages, offline; hub: the data sets that the paper names, streamed."""
    languages: tuple[str, ...] = ("en", "de", "es", "fr", "ru", "zh", "ja", "ko", "ar")
    """ISO 639-1 codes; the first is the pivot that cross-lingual queries point to."""
    seed: int = Field(0, ge=0)
    max_documents: int = Field(2000, ge=1)
    """Training documents of one source and language; the cut is a seeded sample. Held-out documents are cut at eval_texts."""
    editions: int = Field(1, ge=1)
    """Bible editions of each language that language-model text takes (en has 4, fr 3, de and es 2). CLR always uses the first."""
    min_chars: int = Field(40, ge=1)
    max_chars: int = Field(4000, ge=10)
    """Longer documents are divided into pieces of at most this length, at a sentence where possible."""
    near_duplicate_threshold: float = Field(0.8, gt=0, le=1)
    """Jaccard similarity of word 5-grams above which the later document is dropped (MinHash LSH)."""
    minhash_permutations: int = Field(64, ge=16)
    decontamination_ngram: int = Field(13, ge=3)
    """Words (2x characters in scripts without spaces) in a row that a training text may not share with an evaluation set."""
    train_books: tuple[int, ...] = ()
    """Books of the Bible that train; empty: all that are not held out."""
    test_books: tuple[int, ...] = (9, 15, 33, 43)
    """Books of the Bible, by canonical number, whose verses only test: 1 Samuel, Ezra, Micah, John."""
    dev_books: tuple[int, ...] = (7, 16, 45)
    """Books that only tune: Judges, Nehemiah, Romans."""
    heldout_share: float = Field(0.05, gt=0, lt=0.5)
    """Share of the other documents, by title, held out for test, and as much again for dev."""
    eval_candidates: int = Field(1000, ge=20)
    """Candidate passages of a cross-lingual retrieval set."""
    eval_texts: int = Field(400, ge=20)
    """Largest number of texts (or queries) of each other evaluation set."""
    sft_records: int = Field(20_000, ge=1)
    weak_pairs: int = Field(40_000, ge=1)
    retrieval_pairs: int = Field(10_000, ge=1)
    label_texts: int = Field(10_000, ge=1)
    sts_pairs: int = Field(5_000, ge=1)
    clr_verses: int = Field(20_000, ge=1)
    """Verses of training books that become cross-lingual queries in every language but the pivot."""
    parallel_passages: int = Field(2_000, ge=0)
    """Language-model documents of kind `parallel`: a passage followed by its translation, spread over the languages."""

    @model_validator(mode="after")
    def _splits_are_apart(self):
        for one, other in (("test_books", "dev_books"), ("train_books", "test_books"), ("train_books", "dev_books")):
            both = set(getattr(self, one)) & set(getattr(self, other))
            if both:
                raise ValueError(f"{one} and {other} share {sorted(both)}: a book serves one purpose")
        if len(set(self.languages)) != len(self.languages) or len(self.languages) < 2:
            raise ValueError("languages: give at least two different codes, the pivot first")
        if self.min_chars >= self.max_chars:
            raise ValueError(f"min_chars {self.min_chars} must be below max_chars {self.max_chars}")
        return self
