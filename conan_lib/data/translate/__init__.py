"""Cross-lingual retrieval (CLR): the query changes its language, the passage stays.

The paper translates queries of MSMARCO and T2Retrieval into 26 languages with Qwen2.5-7B. Whatever has `provenance` and `translate` serves:
aligned human translations (below), instruction models (`models`), or a reader's own. `build` makes a data set from anybody's pairs:
`allocation` gives queries their languages, `checks` judges each translation.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class Query(NamedTuple):
    """A query and the passage that answers it."""

    id: str
    text: str
    positive: str
    positive_id: str
    lang: str = ""
    """ISO 639-1 code of the query."""
    positive_lang: str = ""


class Translation(NamedTuple):
    """One output of a translator; `text` is empty where there is no translation."""

    text: str
    finished: bool = True
    """Whether the translator came to an end by itself, and not at a limit of tokens."""


class Translator(Protocol):
    """Puts queries into another language."""

    @property
    def provenance(self) -> Mapping[str, str]:
        """What each record says of its origin: translator, model, revision, prompt_hash; what it leaves out is empty."""

    def translate(self, queries: list[Query], lang: str) -> list[Translation]:
        """One translation a query, in order. Must depend on its arguments alone."""


class AlignedTranslations:
    """Human translations, looked up by the query's id.

    Args:
        texts: language -> query id -> text.
    """

    provenance: Mapping[str, str] = {"translator": "aligned", "model": "", "revision": "", "prompt_hash": ""}

    def __init__(self, texts: Mapping[str, Mapping[str, str]]):
        self.texts = texts

    def translate(self, queries: list[Query], lang: str) -> list[Translation]:
        known = self.texts.get(lang, {})
        return [Translation(known.get(query.id, "")) for query in queries]
