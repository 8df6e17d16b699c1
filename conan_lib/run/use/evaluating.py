"""Any sentence-transformers model on a suite of mteb's or on one's own pairs, beside BM25 and another model, with intervals."""

import hashlib
from pathlib import Path

import pyarrow as pa
from mteb.models import SentenceTransformerEncoderWrapper

from conan_lib.data.records import write_table
from conan_lib.errors import UserError
from conan_lib.evaluation.metrics import METRICS
from conan_lib.evaluation.peers import bm25, neutral_tokens
from conan_lib.evaluation.scores import compare, score
from conan_lib.evaluation.suites import load_suite
from conan_lib.evaluation.tasks import Retrieval
from conan_lib.files import check_output, write_json
from conan_lib.params.evaluation import TasksParams
from conan_lib.run.use.models import LANGUAGE, load_model, read_pairs, read_texts

METRIC, RANKED = METRICS["retrieval"][0], ("Retrieval", "Reranking")
BM25 = "bm25"


def evaluate_model(
    model: str, output: Path, suite: str | None = None, data: Path | None = None, corpus: Path | None = None, against: str | None = None
) -> tuple[list[dict], list[dict]]:
    """Score a model, BM25 and perhaps another model; what mteb has scored already in `output` is read.

    Args:
        model: folder or name of a sentence-transformers model; its own prompts are used.
        output: folder of mteb's result files, scores.json and the values of single queries.
        suite: name of one of mteb's benchmarks that parameters know too; BM25 takes part in its retrieval.
        data: pairs in any form that `data.sets` knows: anchors ask, and all positives, given negatives and `corpus` are searched.
        corpus: more passages to search.
        against: the model to compare with, for example the start of training.

    Returns:
        Rows of scores.json, and the paired differences to the others, {before, after, difference, low, high, ...}; of `data` alone.

    Raises:
        UserError: not exactly one of suite and data, a file or a model that cannot be read, or the hub is not there for the suite.
    """
    if (suite is None) == (data is None) or (corpus and not data):
        raise UserError("give either --suite or --data; --corpus belongs to --data")
    check_output(output / "scores.json")
    tables, tasks, folder = own_tables(data, corpus) if data else {}, load_suite(_known(suite)) if suite else [], output
    encoders = [_encoder(name) for name in dict.fromkeys((model, against)) if name]
    names = [encoder.mteb_model_meta.name.split("/")[-1] for encoder in encoders]
    if len(set(names)) < len(names):
        raise UserError(f"{model} and {against} have one name, {names[0]}: rename a folder")
    if data:  # nothing is written before all that is read and loaded is there
        tasks, folder = own_task(data.name, tables, output)
    params, rows = TasksParams(), []
    for encoder in encoders:
        rows += score(encoder, tasks, folder, params, batch_size=32)
    rows += score(bm25(neutral_tokens if data else None), [task for task in tasks if task.metadata.type in RANKED], folder, params, 32)
    write_json(folder / "scores.json", rows)
    others = [*names[1:], BM25] if data else []
    return rows, [compare(folder, other, names[0], tasks[0].metadata.name, METRIC, params) for other in others]


def own_tables(data: Path, corpus: Path | None) -> dict[str, list[dict]]:
    """Pairs and passages as queries (id, text), corpus (id, text) and qrels (query_id, corpus_id, score).

    Raises:
        UserError: a file cannot be read, or there is one passage in all.
    """
    pairs = read_pairs(data, every_negative=True)
    passages = dict.fromkeys([row["positive"] for row in pairs])
    passages |= dict.fromkeys(text for row in pairs for text in row.get("negatives") or ())
    passages |= dict.fromkeys(read_texts(corpus) if corpus else ())
    if len(passages) < 2:
        raise UserError(f"{data}: one passage in all, which every query finds: give more passages with --corpus")
    place = {text: f"d{number}" for number, text in enumerate(passages)}
    query = {text: f"q{number}" for number, text in enumerate(dict.fromkeys(row["anchor"] for row in pairs))}
    answers = dict.fromkeys((query[row["anchor"]], place[row["positive"]]) for row in pairs)  # triplets bring a pair several times
    return {
        "queries": [{"id": number, "text": text} for text, number in query.items()],
        "corpus": [{"id": number, "text": text} for text, number in place.items()],
        "qrels": [{"query_id": asked, "corpus_id": found, "score": 1} for asked, found in answers],
    }


def own_task(source: str, tables: dict[str, list[dict]], output: Path) -> tuple[list[Retrieval], Path]:
    """Tables of the file `source` as one retrieval task, and its folder, which bears the hash of the texts: other texts are another
    task."""
    name = source.partition(".")[0]
    query, place = ([row["text"] for row in tables[table]] for table in ("queries", "corpus"))
    digest = hashlib.sha256(
        "\0".join([*query, "", *place, *(f"{row['query_id']} {row['corpus_id']}" for row in tables["qrels"])]).encode()
    ).hexdigest()[:16]
    folder = output / f"{name}-{digest}"
    for table, rows in tables.items():
        write_table(folder / "eval" / "test" / name / f"{table}.parquet", pa.Table.from_pylist(rows))
    entry = {"name": name, "lang": LANGUAGE, "source": source, "licence": "not stated"}
    return [Retrieval(entry, folder / "eval" / "test" / name, "test", 0)], folder


def _known(suite: str) -> str:
    known = [name for name in TasksParams.model_fields["suite"].annotation.__args__ if name != "embedded"]
    if suite not in known:
        raise UserError(f"--suite {suite}: choose one of {', '.join(known)}")
    return suite


def _encoder(name: str) -> SentenceTransformerEncoderWrapper:
    """The model with the name and revision that mteb's results bear: a folder's are its own name and the hash of its weights."""
    loaded = load_model(name)
    encoder = SentenceTransformerEncoderWrapper(loaded)
    meta = {"name": name.rstrip("/")}
    if (folder := Path(name)).is_dir():
        digest = hashlib.sha256()
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".safetensors", ".json"):
                digest.update(path.read_bytes())
        meta = {"name": f"local/{folder.resolve().name}", "revision": digest.hexdigest()[:16]}
    encoder.mteb_model_meta = encoder.mteb_model_meta.model_copy(update=meta)
    return encoder
