"""Cross-lingual retrieval (CLR): the query changes its language, the passage stays.

The paper translates queries of MSMARCO and T2Retrieval into 26 languages with Qwen2.5-7B. Offline, aligned human translations take the
place of the machine's: whatever has a `translate` method serves.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol


class Query(NamedTuple):
    """A pivot-language query and the passage that answers it."""

    id: str
    text: str
    positive: str
    positive_id: str


class Translator(Protocol):
    """Puts queries into another language."""

    def translate(self, queries: list[Query], lang: str) -> list[str]:
        """One text a query, in order; empty where there is no translation."""


class AlignedTranslations:
    """Human translations, looked up by the query's id.

    Args:
        texts: language -> query id -> text.
    """

    def __init__(self, texts: Mapping[str, Mapping[str, str]]):
        self.texts = texts

    def translate(self, queries: list[Query], lang: str) -> list[str]:
        known = self.texts.get(lang, {})
        return [known.get(query.id, "") for query in queries]


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
        for query, text in zip(queries, translator.translate(queries, lang), strict=True):
            if text:
                yield {
                    "id": f"{query.id}/{lang}", "anchor": text, "positive": query.positive, "positive_id": query.positive_id,
                    "source_anchor_id": query.id, "lang": lang, "source": source,
                }  # fmt: skip
