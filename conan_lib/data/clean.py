"""Cleaning: repair, language, quality, duplicates. Each step says what it dropped, so that the funnel can be drawn.

ftfy, datasketch and py3langid are imported by what needs them: a machine that only trains and scores does without.
"""

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from conan_lib.data.ngrams import hashed_ngrams, normalise, units, width
from conan_lib.data.workers import parallel
from conan_lib.params.data import DataParams

if TYPE_CHECKING:
    from datasketch import MinHash
    from py3langid.langid import LanguageIdentifier

SHINGLE = 5
"""Words in a shingle of near-duplicate detection (10 characters in scripts without spaces)."""
CHUNK = 1024
"""Texts that a process checks at a time."""
LANGUAGE_CHARS = 80
"""Shorter texts are trusted to their source: an identifier is unreliable on them."""
_FIXES = {"uncurl_quotes": False, "fix_character_width": False}
"""ftfy's: typographic quotes stay, and so do full-width commas and stops, which are right in Chinese and Japanese."""
_SUSPECT = re.compile("[&\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb00-\ufb06\ufeff\ufffd]")
_MULTIBYTE = re.compile("[^\x00-\x7f]{2}")
_INVISIBLE = re.compile("[\xad\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_SYMBOLS = re.compile(r"[\x00-@\[-`{-~]+")
_CJK = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef“”‘’"
_CJK_SPACE = re.compile(f"(?<=[{_CJK}])[ \t]+|[ \t]+(?=[{_CJK}])")


class Checked(NamedTuple):
    """One text after the per-text steps. `dropped` names the step that refused it, else is empty."""

    text: str
    dropped: str
    signature: np.ndarray | None


def repair(text: str, lang: str = "") -> str:
    """Mend mis-decoded characters (ftfy), drop invisible controls, and settle white space."""
    import ftfy

    # ftfy's fixes start from one of these signs, and wrongly decoded UTF-8 has two characters beyond ASCII in a row: looking for them first
    # spares most texts its many passes
    if _SUSPECT.search(text) or (_MULTIBYTE.search(text) and ftfy.badness.is_bad(text)):
        text = _INVISIBLE.sub("", ftfy.fix_text(text, **_FIXES))
    text = unicodedata.normalize("NFC", text)
    if lang in ("zh", "ja"):
        text = _CJK_SPACE.sub("", text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def quality(text: str, lang: str, min_chars: int) -> bool:
    """Whether a document reads as prose. The rules, each on characters other than spaces:

    - at least min_chars long (half of that in zh, ja and ko, whose characters carry more);
    - at least 60 % are neither digits nor ASCII symbols;
    - it does not deflate below a twelfth of its UTF-8 size (repetition);
    - no character runs longer than 15 times.
    """
    dense = "".join(text.split())
    if len(dense) < (min_chars // 2 if lang in ("zh", "ja", "ko") else min_chars):
        return False
    if len(_SYMBOLS.sub("", dense)) < 0.6 * len(dense):
        return False
    data = text.encode()
    return len(zlib.compress(data, 1)) * 12 >= len(data) and not re.search(r"(\S)\1{15}", text)


def _langid() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@lru_cache(maxsize=4)
def _identifier(languages: tuple[str, ...]) -> "LanguageIdentifier":
    identifier = _langid()
    identifier.set_languages(sorted(set(languages) & set(identifier.labels)))
    return identifier


@lru_cache(maxsize=1)
def _all_languages() -> "LanguageIdentifier":
    return _langid()


def identifiable() -> frozenset[str]:
    """The languages that py3langid knows."""
    return frozenset(_all_languages().nb_classes)


def identify(text: str, candidates: Iterable[str]) -> tuple[str, dict[str, float]]:
    """The most probable of the candidate languages, and the probability of each among them.

    A text that is in none of them for certain has the language that it is in, and probabilities of 0.
    """
    known = dict(_all_languages().rank(text))
    chosen = {lang: known.get(lang, 0.0) for lang in candidates}
    total = sum(chosen.values())
    if not total:
        return max(known, key=known.get), chosen
    return max(chosen, key=chosen.get), {lang: probability / total for lang, probability in chosen.items()}


def speaks(text: str, lang: str, candidates: tuple[str, ...]) -> bool:
    """Whether a text is in its stated language: dropped only where another candidate wins with a probability of 0.9 or more."""
    if len(text) < LANGUAGE_CHARS:
        return True
    identifier = _identifier(candidates)
    if lang not in identifier.nb_classes:  # it does not know the language, so it would take its texts for another's
        return True
    found, probability = identifier.classify(text[:240])
    return found == lang or probability < 0.9


def _check(rows: Sequence[tuple], candidates: tuple[str, ...], params: DataParams) -> list[Checked]:
    """The steps that look at one text alone."""
    checked = []
    for text, lang, prose, *clean in rows:
        if clean == [False]:
            checked.append(Checked(text, "", signature(text, lang, params.minhash_permutations) if prose else None))
            continue
        text = repair(text, lang)
        if not text:
            checked.append(Checked(text, "quality", None))
        elif not prose:
            checked.append(Checked(text, "", None))
        elif not speaks(text, lang, candidates):
            checked.append(Checked(text, "language", None))
        elif not quality(text, lang, params.min_chars):
            checked.append(Checked(text, "quality", None))
        else:
            checked.append(Checked(text, "", signature(text, lang, params.minhash_permutations)))
    return checked


@lru_cache(maxsize=4)
def _empty(permutations: int) -> "MinHash":
    from datasketch import MinHash

    return MinHash(permutations, hashfunc=int)


def signature(text: str, lang: str, permutations: int) -> np.ndarray | None:
    """MinHash values of a text's shingles, (permutations,) uint32; None where it is shorter than one shingle."""
    sketch = _empty(permutations).copy()
    shingles, _ = hashed_ngrams([units(normalise(text), lang)], width(lang, SHINGLE))
    if not len(shingles):
        return None
    sketch.update_batch(np.unique(shingles >> np.uint64(32)))
    return sketch.hashvalues


def check(rows: Sequence[tuple], candidates: Iterable[str], params: DataParams, workers: int) -> list[Checked]:
    """Repair texts and, where they are prose, identify their language and judge their quality.

    Args:
        rows: (text, language, whether it is prose), and False behind where the text stays as it is, whatever it is; of short records
            (questions, labels), which are no prose, the text is only repaired.
        candidates: languages that the identifier chooses from.
        workers: processes; the result does not depend on it.
    """
    candidates = tuple(sorted(candidates))
    chunks = [(rows[i : i + CHUNK], candidates, params) for i in range(0, len(rows), CHUNK)]
    return list(chain.from_iterable(parallel(_check, chunks, workers)))


class Funnel:
    """Counts of documents and characters after each step, by source and language."""

    def __init__(self):
        self._rows: dict[tuple[str, str, str], Counter] = {}

    def count(self, step: str, documents: Iterable) -> None:
        """Record what is left after `step`."""
        for document in documents:
            row = self._rows.setdefault((document.source, document.lang, step), Counter())
            row["documents"] += 1
            row["chars"] += len(document.text)

    def counted(self, step: str, documents: Iterable) -> Iterator:
        """The documents, each recorded as it passes."""
        for document in documents:
            self.count(step, [document])
            yield document

    def add(self, source: str, lang: str, step: str, documents: int, chars: int) -> None:
        """Record counts that were taken elsewhere."""
        self._rows.setdefault((source, lang, step), Counter()).update(documents=documents, chars=chars)

    def rows(self) -> list[dict]:
        return [
            {"source": source, "lang": lang, "step": step, "documents": row["documents"], "chars": row["chars"]}
            for (source, lang, step), row in self._rows.items()
        ]
