"""Cross-lingual retrieval (CLR): the query changes its language, the passage stays.

The paper translates queries of MSMARCO and T2Retrieval into 26 languages with Qwen2.5-7B. Whatever has `provenance` and `translate` serves:
aligned human translations (below; stage `sets` uses them offline), instruction models (`models`), or a reader's own. `build` makes a data
set from anybody's pairs: `allocation` gives queries their languages, `checks` judges each translation.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol


class Query(NamedTuple):
    """A query and the passage that answers it."""

    id: str
    text: str
    positive: str
    positive_id: str
    lang: str = ""
    """ISO 639-1 code of the query; those of stage `sets` are all in the pivot language."""
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


def clr_records(queries: Iterable[Query], translator: Translator, languages: Iterable[str], source: str) -> Iterator[dict]:
    """Rows of clr.parquet: every query in every language that the translator has, each with the passage of the original.

    Args:
        queries: pivot-language queries.
        translator: see Translator.
        languages: target languages, the pivot left out.
        source: what the rows say they come from.

    Yields:
        id, anchor, positive, positive_id, source_anchor_id, lang, source. All translations of a query share positive_id and
        source_anchor_id.
    """
    queries = list(queries)
    for lang in languages:
        for query, (text, _) in zip(queries, translator.translate(queries, lang), strict=True):
            if text:
                yield {
                    "id": f"{query.id}/{lang}", "anchor": text, "positive": query.positive, "positive_id": query.positive_id,
                    "source_anchor_id": query.id, "lang": lang, "source": source,
                }  # fmt: skip
