"""Decontamination: no training text may share an n-gram with an evaluation text, or be one."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from conan_lib.data.ngrams import hashed_ngrams, normalise, units, width
from conan_lib.errors import UserError
from conan_lib.files import again, replacing


class EvaluationIndex:
    """The n-grams and whole texts of every evaluation set, as hashes of 64 bits.

    Args:
        words: length of an n-gram in words (twice that in characters where a script has no spaces).
    """

    def __init__(self, words: int):
        self.words = words
        self._hashes: dict[int, np.ndarray] = {}
        self._texts: set[int] = set()

    def add(self, rows: Iterable[tuple[str, str]]) -> None:
        """Add evaluation texts: (text, language)."""
        rows = [(form, lang) for form, lang in ((normalise(text), lang) for text, lang in rows) if form]
        self._texts.update(_digest(form) for form, _ in rows)
        for n, numbers in self._by_width(rows).items():
            found, _ = hashed_ngrams([units(*rows[number]) for number in numbers], n)
            self._hashes[n] = np.sort(np.concatenate([self._hashes.get(n, np.zeros(0, np.uint64)), found]))

    def overlaps(self, rows: Sequence[tuple[str, str]]) -> np.ndarray:
        """Which texts overlap an evaluation text.

        Args:
            rows: (text, language).

        Returns:
            (N,) bool: the text shares an n-gram with an evaluation text, or is equal to one but for case, punctuation and spacing.
        """
        rows = [(normalise(text), lang) for text, lang in rows]
        overlap = np.array([_digest(form) in self._texts for form, _ in rows], dtype=bool)
        for n, numbers in self._by_width(rows).items():
            known = self._hashes.get(n, np.zeros(0, np.uint64))
            if not len(known):
                continue
            hashes, owners = hashed_ngrams([units(*rows[number]) for number in numbers], n)
            place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            overlap[np.array(numbers)[np.unique(owners[known[place] == hashes])]] = True
        return overlap

    def _by_width(self, rows: Sequence[tuple[str, str]]) -> dict[int, list[int]]:
        groups: dict[int, list[int]] = {}
        for number, (_, lang) in enumerate(rows):
            groups.setdefault(width(lang, self.words), []).append(number)
        return groups

    def save(self, path: Path) -> None:
        """Write it as a numpy archive: words, texts, and the n-grams of each width."""
        texts = np.array(sorted(self._texts), dtype=np.uint64)
        with replacing(path) as new, open(new, "wb") as file:
            np.savez(file, words=self.words, texts=texts, **{str(n): hashes for n, hashes in self._hashes.items()})

    @classmethod
    def load(cls, path: Path) -> "EvaluationIndex":
        """Read what `save` wrote.

        Raises:
            UserError: the file is not here.
        """
        if not path.is_file():
            raise UserError(f"{path}: not here, parcels leave it out: make the sets where the corpus was made, or {again(path)}")
        with np.load(path) as saved:
            index = cls(int(saved["words"]))
            index._texts = set(saved["texts"].tolist())
            index._hashes = {int(name): saved[name] for name in saved.files if name.isdecimal()}
        return index


def _digest(form: str) -> int:
    return int.from_bytes(hashlib.blake2b(form.encode(), digest_size=8).digest(), "little")
