"""Does a passage hold an answer? The string match of open-domain question answering (DPR, RocketQA, and MKQA in the paper's protocol)."""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence

import regex

Tokens = tuple[str, ...]

_TOKEN = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")
_WORD = regex.compile(r"[\p{L}\p{N}\p{M}]+")
_ARTICLES = frozenset({"a", "an", "the"})
_PLAIN = str.maketrans(
    dict.fromkeys("‘’‚‛＇՚´`′", "'") | dict.fromkeys("“”„‟", '"') | dict.fromkeys("‐‑‒–—―⁃−－", "-") | {"…": "...", "\u00ad": ""}
)


def plain(text: str) -> str:
    """Typographic quotes, dashes and ellipses in their ASCII form; soft hyphens removed."""
    return text.translate(_PLAIN)


def tokens(text: str, match: str = "tokens") -> Tokens:
    """What is compared: the decomposed (NFD), lower-cased text as runs of letters, digits and marks, each other visible character alone.

    A script without spaces (Chinese, Japanese, Thai, Khmer) gives one token between two punctuation marks, so an answer inside a sentence
    is not found: that is the protocol, which was made for English passages.

    Args:
        match: tokens, or squad: without punctuation and English articles.
    """
    words = (_TOKEN if match == "tokens" else _WORD).findall(unicodedata.normalize("NFD", plain(text)))
    lower = (word.lower() for word in words)
    return tuple(lower if match == "tokens" else (word for word in lower if word not in _ARTICLES))


class AnswerIndex:
    """All answers at once: one walk over a passage finds every question that it answers.

    Args:
        answers: the accepted answers of each question; one without a token never matches.
        match: as in `tokens`.
    """

    def __init__(self, answers: Sequence[Sequence[str]], match: str = "tokens"):
        self.match = match
        self._questions: dict[Tokens, list[int]] = defaultdict(list)
        for question, accepted in enumerate(answers):
            for answer in {tokens(answer, match) for answer in accepted} - {()}:
                self._questions[answer].append(question)
        lengths = defaultdict(set)
        for answer in self._questions:
            lengths[answer[0]].add(len(answer))
        self._lengths = dict(lengths)

    def answered_by(self, passage: str) -> list[int]:
        """The questions with an answer in the passage, in rising order."""
        words = tokens(passage, self.match)
        found: set[int] = set()
        for start, word in enumerate(words):
            for length in self._lengths.get(word, ()):
                found.update(self._questions.get(words[start : start + length], ()))
        return sorted(found)
