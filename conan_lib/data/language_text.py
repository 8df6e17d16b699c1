"""The text that language models read: prose, questions and entries with what they are about, and passages beside their translation."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pyarrow.compute as compute
from pyarrow.dataset import dataset, field

from conan_lib.data import records
from conan_lib.data.corpus import HELDOUT, Corpus
from conan_lib.data.sampling import chance, sample
from conan_lib.data.sources.bible import PASSAGE, join, verse_id
from conan_lib.data.sources.document import Document

SCHEMA = records.schema("id text title lang source kind split")
"""Columns of documents.parquet."""
TITLED = {"question": "\n", "dialogue": "\n", "dictionary": "："}
"""Kinds whose title is part of the text, and what stands between the two."""


def language_text(corpus: Corpus) -> Iterator[dict]:
    """Rows of documents.parquet, held-out text included; commands and discussions are no text to learn a language from."""
    for split in (*HELDOUT, "train"):
        for d in chain(corpus.documents(split), parallel_documents(corpus) if split == "train" else ()):
            if d.kind in ("discussion", "command"):
                continue
            text, title = (d.title + TITLED[d.kind] + d.text, "") if d.kind in TITLED else (d.text, d.title)
            yield {"id": d.id, "text": text, "title": title, "lang": d.lang, "source": d.source, "kind": d.kind, "split": split}


def parallel_documents(corpus: Corpus) -> list[Document]:
    """Passages of training books followed by their translation, from the pivot or into it by turns."""
    scripture, params = corpus.scripture, corpus.params
    others = corpus.languages("text")[1:]
    rows = []
    for number, lang in enumerate(others):
        share = params.parallel_passages // len(others) + (number < params.parallel_passages % len(others))
        for run in sample(scripture.passages("train", PASSAGE), share, params.seed + number):
            sides = [join((scripture.text(verse, own) for verse in run), own) for own in (scripture.languages[0], lang)]
            if chance(params.seed, "side", run[0], lang) < 0.5:
                sides.reverse()
            rows.append(Document(f"parallel/{verse_id(run[0], lang)}", "\n".join(sides), lang, "bible, parallel", "parallel"))
    overlap = corpus.index.overlaps([(d.text, d.lang) for d in rows])
    return [d for d, bad in zip(rows, overlap, strict=True) if not bad]


def training_text(documents: Path) -> list[dict]:
    """Characters of the training split of documents.parquet: {source, lang, characters}, sorted."""
    columns = {"source": field("source"), "lang": field("lang"), "characters": compute.utf8_length(field("text"))}
    table = dataset(documents).to_table(columns=columns, filter=field("split") == "train")
    summed = table.group_by(["source", "lang"]).aggregate([("characters", "sum")]).rename_columns(["source", "lang", "characters"])
    return summed.sort_by([("source", "ascending"), ("lang", "ascending")]).to_pylist()
