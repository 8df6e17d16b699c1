"""Hashed n-grams of many texts at once: what near-duplicate removal and decontamination compare."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

import numpy as np
import regex

from conan_lib.data.languages import UNSPACED

_WORDS = regex.compile(r"[\w\p{M}]+")
"""Marks belong to their letters: without them words of Hindi and Bengali fall apart into consonants."""
_MULTIPLIER = 0x9E3779B97F4A7C15


def normalise(text: str) -> str:
    """Case, width, punctuation and spacing removed: texts with equal forms are the same text."""
    return " ".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


@lru_cache(maxsize=1 << 18)
def _code(word: str) -> int:
    return crc32(word.encode())


def units(form: str, lang: str) -> np.ndarray:
    """The codes of the words of a normalised text, or of its characters where the script has no spaces: (L,) uint32."""
    if lang in UNSPACED:
        return np.frombuffer(form.replace(" ", "").encode("utf-32-le"), dtype=np.uint32)
    return np.array([_code(word) for word in form.split()], dtype=np.uint32)


def width(lang: str, words: int) -> int:
    """Length of an n-gram in units: `words`, or twice that in characters."""
    return 2 * words if lang in UNSPACED else words


def hashed_ngrams(sequences: Sequence[np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """All n-grams of all sequences, as 64-bit polynomial hashes.

    Args:
        sequences: units of each text.
        n: units in an n-gram; a shorter text has none.

    Returns:
        hashes (N,) uint64 and owners (N,) int64, the index of each n-gram's text.
    """
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    if lengths.sum() < n:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    flat = np.concatenate(sequences).astype(np.uint64)
    # unsigned arithmetic wraps modulo 2^64, which is the hash's modulus; units are mixed first because neighbouring codes are close
    mixed = (flat + np.uint64(1)) * np.uint64(_MULTIPLIER)
    mixed ^= mixed >> np.uint64(29)
    count = len(flat) - n + 1
    hashes = np.zeros(count, np.uint64)
    for k in range(n):
        hashes = hashes * np.uint64(_MULTIPLIER) + mixed[k : k + count]
    owners = np.repeat(np.arange(len(lengths)), lengths)
    inside = owners[:count] == owners[n - 1 :]
    return hashes[inside], owners[:count][inside]
