"""The nearest texts to a sentence: the thing that everybody tries first."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from sentence_transformers.util import semantic_search

from conan_lib.run.use.models import load_model, read_texts


def search(model: str, texts: Path, queries: Iterable[str], top: int = 5) -> Iterator[tuple[str, list[tuple[float, int, str]]]]:
    """For each query, as it comes, the nearest texts: (cosine, number from 1, text), best first.

    Raises:
        UserError: there is no such model or no text.
    """
    found = read_texts(texts)
    loaded = load_model(model)
    vectors = loaded.encode_document(found, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=len(found) > 1000)
    for query in filter(None, map(str.strip, queries)):
        asked = loaded.encode_query([query], convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False)
        (hits,) = semantic_search(asked, vectors, top_k=top)
        yield query, [(hit["score"], hit["corpus_id"] + 1, found[hit["corpus_id"]]) for hit in hits]
