"""Every declared set of a run, read once: documents for the corpus, rows for the training sets, and a record of where they come from."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from conan_lib.data import records
from conan_lib.data.clean import Funnel
from conan_lib.data.corpus import ROWS
from conan_lib.data.declared import hub, read
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.ondisk import OnDisk
from conan_lib.data.pieces import pieces
from conan_lib.data.places import digest
from conan_lib.data.sampling import chance, drawn_split, stream_sample
from conan_lib.data.sources.document import Document
from conan_lib.files import fingerprint
from conan_lib.params.data import DataParams
from conan_lib.params.sets import DeclaredSet
from conan_lib.stages import located

SPLITS = ("test", "dev", "train")
FOUND = pa.schema([*ROWS, *records.schema("kind title")])
"""Columns of what was read."""
BLOCK = 4096
"""Rows that are compared with the evaluation texts at a time."""
PASSAGE = "passage"
"""Kind of a document that is a passage of a pair, or a labelled text."""
SHOWN = ("anchor", "positive", "input", "output", "text")
"""Fields of a row that training shows."""


class Declared:
    """What the declared sets of a run hold, read once and kept on disk: documents, and rows with their task and split.

    Args:
        params: the sets, languages, seed and held-out shares.
        folder: where it is kept.
        counts: counts records and rows (`declared.STEPS`).
        funnel: counts documents.

    Raises:
        UserError: a set cannot be read, or a record of it is wrong.
    """

    def __init__(self, params: DataParams, folder: Path, counts: Funnel, funnel: Funnel):
        self.params, self._funnel = params, funnel
        self.records: list[dict] = []
        """Of each set, for sources.json."""
        self._raw = {row.source for row in params.declared if not row.clean}
        self._pieces: Counter[tuple[str, str, str]] = Counter()
        self._draws: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        self._table = self._texts = folder / "declared.parquet"
        records.write(self._table, self._read(counts), FOUND)
        if not params.embedded and not any(row.task == "text" for row in params.declared):
            self._texts = folder / "passages.parquet"
            records.write(self._texts, self._passages(), FOUND)

    def documents(self, split: str) -> Iterator[Document]:
        """Of a split: as many of each source and language as the parameters say, drawn by their place."""
        params = self.params
        counts = {(source, lang): count for (source, lang, own), count in self._pieces.items() if own == split}
        sizes = {key: params.most_documents(key[0]) if split == "train" else params.heldout_documents for key in counts}
        rows = records.Rows(self._texts, (*Document._fields[:7],), {"task": ("text",), "split": (split,)})
        for row in stream_sample(rows, counts, sizes, params.seed, lambda row: (row["source"], row["lang"])):
            yield Document(**row, clean=row["source"] not in self._raw)

    def rows(self, *splits: str) -> Iterator[dict]:
        """Of these splits, in order; of those that are held out `heldout_documents` queries of each source and language, whichever
        have the lowest draws."""
        for row in records.Rows(self._table, tuple(ROWS.names), {"split": splits}):
            if row["task"] != "text" and (row["split"] == "train" or self._draw(row["group"]) <= self._draws[_place(row)][-1]):
                yield row

    def _draw(self, group: str) -> float:
        return chance(self.params.seed, "split", group)

    def _read(self, counts: Funnel) -> Iterator[dict]:
        for declared in self.params.declared:
            languages, documents, chars = set(), 0, 0
            for row in divided(declared, self.params, counts):
                languages.add(row["lang"])
                documents, chars = documents + 1, chars + sum(len(row[name]) for name in SHOWN if row.get(name))
                if declared.task == "text":
                    own = Document(row["id"], row["text"], row["lang"], row["source"], declared.kind, row["title"], row["group"])
                    yield from self._divided(own._replace(clean=declared.clean), row["split"])
                    continue
                if row["split"] != "train":
                    self._hold_out(row)
                yield {**dict.fromkeys(FOUND.names), **row}
            self.records.append({**_record(declared), "languages": sorted(languages), "documents": documents, "chars": chars})

    def _hold_out(self, row: dict) -> None:
        """Keep the row's draw, if it is among the lowest of its source, language and split."""
        draws, draw = self._draws[_place(row)], self._draw(row["group"])
        place = bisect_left(draws, draw)
        if draws[place : place + 1] != [draw]:
            draws.insert(place, draw)
            del draws[self.params.heldout_documents :]

    def _divided(self, document: Document, split: str) -> Iterator[dict]:
        self._funnel.count("read", [document])
        for piece in pieces(document, self.params.max_chars):
            self._pieces[piece.source, piece.lang, split] += 1
            yield {**dict.fromkeys(FOUND.names), **piece._asdict(), "task": "text", "split": split}

    def _passages(self) -> Iterator[dict]:
        """Without a set of text, what the other rows find or label is what a start's tokenizer and language model are measured on."""
        seen = OnDisk()
        for name in SPLITS:  # a text is held out if one of its rows is
            for row in self.rows(name):
                text, key = row["positive"] or row["text"] or "", row["positive_id"] or row["id"]
                if row["task"] != "sft" and text and seen.add(digest(text)):
                    lang = row["positive_lang"] or row["lang"]
                    own = Document(f"{row['source']}/{key}", text, lang, row["source"], PASSAGE, group=row["group"])
                    yield from self._divided(own._replace(clean=row["source"] not in self._raw), name)


def _place(row: dict) -> tuple[str, str, str]:
    return row["source"], row["lang"], row["split"]


def divided(declared: DeclaredSet, params: DataParams, funnel: Funnel) -> Iterator[dict]:
    """Rows of a set with their task and split: test, dev or train.

    A group (one query in all its translations, records with one anchor) is held out whole, by a hash of the seed and itself, so that it
    falls the same way in every set and in every order. Rows of a held-out file are test and dev by halves.
    """
    most = params.hub_records if declared.hub else None
    found = read(declared, params.languages, funnel, most, params.seed, every_negative=True)
    own = [(declared.heldout_share(params.heldout_share), found)]
    if isinstance(declared.heldout, str):
        own.append((0.5, read(declared, params.languages, funnel, file=declared.heldout, every_negative=True)))
    for share, rows in own:
        for row in rows:
            yield {**row, "task": declared.task, "split": drawn_split(row["group"], share, params.seed)}


def _record(declared: DeclaredSet) -> dict:
    return {
        "name": declared.source,
        "package": declared.from_,
        "version": hub.resolved(declared) if declared.hub else fingerprint(located(declared.from_)),
        "edition": f"task {declared.task}" + (f", split {declared.split}" if declared.hub else ""),
        "homepage": f"https://huggingface.co/datasets/{declared.hub['path']}" if declared.hub else "",
    }


def asked(row: dict) -> list[tuple[str, str]]:
    """(text, language) of what an evaluation asks with a held-out row: the query, both sentences of sts, the text. The passages that are
    searched stay in training, as in every search over one's own documents."""
    names = ("anchor", "positive") if row["task"] == "sts" else ("anchor", "input", "text")
    return [(row[name], row["lang"]) for name in names if row.get(name)]


def decontaminated(rows: Iterable[dict], index: EvaluationIndex) -> Iterator[dict]:
    """Held-out rows, and the training rows that share no n-gram with an evaluation text, by anchor, positive, input, output or text."""
    for block in records.batched(rows, BLOCK):
        shown = [(k, row[name], row["lang"]) for k, row in enumerate(block) if row["split"] == "train" for name in SHOWN if row.get(name)]
        overlap = index.overlaps([(text, lang) for _, text, lang in shown])
        bad = {k for (k, _, _), found in zip(shown, overlap, strict=True) if found}
        yield from (row for k, row in enumerate(block) if k not in bad)
