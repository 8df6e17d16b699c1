"""Eleven pairs in English, and a translator of one sentence into three languages."""

import json
from pathlib import Path

from conan_lib.data.translate import Query, Translation
from conan_lib.params.data import TranslateParams

PARAMS = TranslateParams(shares={"en": 1, "de": 2, "fr": 1}, languages_per_query=0, shard_size=4)
GERMAN = "wie viele Menschen leben in der Stadt mit der Nummer {} und wer regiert sie"
FRENCH = "combien de personnes vivent dans la ville numéro {} et qui la gouverne"
ENGLISH = "how many people live in the town with the number {} and who governs it"


class Phrases:
    """A translator of one sentence; every fifth query comes back as it was."""

    provenance = {"translator": "phrases", "model": "none", "revision": "1", "prompt_hash": ""}

    def __init__(self, hook=lambda calls: None):
        self.calls, self.hook = 0, hook

    def translate(self, queries: list[Query], lang: str) -> list[Translation]:
        self.calls += 1
        self.hook(self.calls)
        phrase = {"de": GERMAN, "fr": FRENCH, "en": ENGLISH}[lang]
        return [Translation(query.text if int(query.id[1:]) % 5 == 0 else phrase.format(query.id[1:])) for query in queries]


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_pairs(folder: Path) -> Path:
    rows = [{"id": f"q{i}", "query": ENGLISH.format(i), "passage": f"Town {i} has {i} people.", "lang": "en"} for i in range(11)]
    return write_lines(folder / "pairs.jsonl", rows)
