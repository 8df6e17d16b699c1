"""What training sets and evaluation are made from: clean documents by split, scripture, and an index of what evaluation shows.

Stage `corpus` writes it and the stages `sets` and `heldout` read it: clean.parquet holds the documents with all their fields, rows.parquet
the rows of declared sets that are no documents, tainted.json the verses that no training text may quote, evaluation_index.npz the hashes of
evaluation texts. The verses are read from their package.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conan_lib.data import records
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.sources.bible import Scripture
from conan_lib.data.sources.document import Document
from conan_lib.files import read_json, write_json
from conan_lib.params.data import DataParams
from conan_lib.params.sets import Task
from conan_lib.stages import Stage

HELDOUT = ("test", "dev")
EXCERPT = 1000
"""Characters of a passage in a pair or an evaluation set: encoders read far less."""
LABEL_TASKS = {
    "intents": "classification",
    "movie-reviews": "classification",
    "shop-reviews": "classification",
    "newsgroups": "clustering",
    "wiki": "clustering",
    **dict.fromkeys(("banking77", "emotion", "imdb", "toxic"), "classification"),
}
"""Sources whose labels are trained on and evaluated, and as what."""
FIELDS = ("id", "text", "lang", "source", "kind", "title", "group", "summary", "label")
CLEAN = records.schema(" ".join((*FIELDS, "split")))
ROWS = records.schema(
    "task split id group lang source prompt anchor positive positive_id positive_lang source_anchor_id instruction input output text label",
    "score", "negatives",
)  # fmt: skip
TAINTED, INDEX = "tainted.json", "evaluation_index.npz"


class Documents(records.Rows):
    """Documents of clean.parquet, read as they are asked for."""

    def __iter__(self) -> Iterator[Document]:
        return (Document(**row) for row in super().__iter__())


@dataclass(frozen=True)
class Corpus:
    """What a folder of stage `corpus` holds: clean documents by split, the scripture (without a verse where the run reads none), the
    evaluation's n-grams, and the declared rows. Documents and rows stay on disk."""

    params: DataParams
    folder: Path
    scripture: Scripture
    index: EvaluationIndex

    @property
    def rows(self) -> records.Rows:
        """Of declared sets (data/declared/fields.py), with task and split; fields that a task has not are None."""
        return records.Rows(self.folder / "rows.parquet")

    def documents(self, split: str) -> Documents:
        """Of a split, in order."""
        return Documents(self.folder / "clean.parquet", FIELDS, {"split": (split,)})

    def languages(self, task: Task) -> tuple[str, ...]:
        """Those in which verses train a task, the pivot first."""
        return self.scripture.languages if self.params.scripture_trains(task) else ()

    def of(self, split: str, *kinds: str) -> Iterator[Document]:
        """Documents of a split and of these kinds; later pieces of a long document are left out."""
        return (document for document in self.documents(split).only(kind=kinds) if "#" not in document.id)

    def labelled(self, split: str) -> dict[str, list[Document]]:
        """Documents with labels, by set; wiki's labels are words of its language, so each language is a set of its own."""
        sets = defaultdict(list)
        for d in self.documents(split).only(source=tuple(LABEL_TASKS)):
            if d.label:
                sets[f"{d.source}-{d.lang}" if d.source == "wiki" else d.source].append(d)
        return sets

    def decontaminated(self, rows: Sequence[dict], *fields: str) -> list[dict]:
        """Without rows that overlap an evaluation text in one of these fields; joined verses can where single ones do not."""
        bad = [self.index.overlaps([(row[field], row["lang"]) for row in rows]) for field in fields]
        return [row for row, *found in zip(rows, *bad, strict=True) if not any(found)]


def write_corpus(corpus: Corpus, documents: Iterable[tuple[str, Document]], rows: Iterable[dict] = ()) -> None:
    """Write what `read_corpus` reads: (split, document) and declared rows, as they come."""
    fields = ({name: getattr(document, name) for name in FIELDS} | {"split": split} for split, document in documents)
    records.write(corpus.folder / "clean.parquet", fields, CLEAN)
    records.write(corpus.folder / "rows.parquet", ({**dict.fromkeys(ROWS.names), **row} for row in rows), ROWS)
    write_json(corpus.folder / TAINTED, sorted(corpus.scripture.tainted))
    corpus.index.save(corpus.folder / INDEX)


def read_corpus(stage: Stage, *scripture: str) -> Corpus:
    """The corpus that a stage is made from.

    Args:
        stage: has stage `corpus` among its inputs.
        scripture: splits whose verses are read.

    Raises:
        UserError: the corpus has not finished, or a file of it was not carried here.
    """
    folder, params = stage.needs("corpus"), stage.inputs["corpus"].data
    verses = Scripture(params, stage.runtime.threads, scripture, map(tuple, read_json(folder / TAINTED)))
    return Corpus(params, folder, verses, EvaluationIndex.load(folder / INDEX))
