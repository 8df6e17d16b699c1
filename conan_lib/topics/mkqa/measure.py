"""Stage mkqa: MKQA by the paper's protocol. A passage counts as relevant if it holds an answer string.

Not mteb's task MKQARetrieval, which has relevance judgements and passages of its own: its numbers never share a column with these.
"""

import json
import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from conan_lib.data import records
from conan_lib.errors import UserError
from conan_lib.evaluation.encoder import own_encoder
from conan_lib.files import write_json
from conan_lib.stages import Stage, computes, project_root
from conan_lib.topics.mkqa.data import Benchmark, Question, digest, load_benchmark
from conan_lib.topics.mkqa.index import WHOLE, encode_shards, matches, search
from conan_lib.topics.mkqa.match import AnswerIndex, tokens
from conan_lib.topics.mkqa.metrics import MEAN, METRICS, chance_success_at, judge, ndcg_at, success_at, summarise

MODEL = "supervised"
COLUMNS = (*METRICS, "relevant", *(f"chance {metric}" for metric in METRICS[:2]))
QUESTIONS = pa.schema([*records.schema("id lang question", lists="answers"), *(pa.field(name, pa.float64()) for name in COLUMNS)])


def _unchanged(stage: Stage) -> None:
    """A key holds the name of a user's folder, not its content.

    Raises:
        UserError: the files are not those that this artefact was begun with.
    """
    begun = stage.path / "digest.json"
    if stage.mkqa.source != "files" or not begun.is_file():
        return
    folder = project_root() / stage.mkqa.folder
    if not (folder / "corpus.jsonl").is_file() or not (folder / "questions.jsonl").is_file():
        return  # load_benchmark says so, unless the result is there already
    if begun.read_text(encoding="utf-8") != f'"{digest(folder)}"':
        raise UserError(f"mkqa.folder: {folder} has changed since stage mkqa ({stage.key}) was begun: delete {stage.path}, or name another")


@computes(together=True, check=_unchanged)
def evaluate_mkqa(stage: Stage) -> dict | None:
    """Encode the corpus, search it with every question, and judge what is found by its answer strings.

    Writes shards/ (see mkqa_index), retrieved.npz (rows and scores of the passages found), questions.parquet (values of single questions)
    and scores.json (by language, with intervals over questions and what a random ranking would give). Killed and run again, it goes on with
    the first missing shard; the processes of one launch share the shards.

    Raises:
        UserError: no hub, a mistake in the files or files that have changed, or no passage answers any question.
    """
    params = stage.mkqa
    # a mistake shows before anything is written
    benchmark = load_benchmark(params, stage.tasks.split, stage.inputs["corpus"], project_root())
    questions = [question for question in benchmark.questions if any(tokens(answer, params.match) for answer in question.answers)]
    if not questions:
        raise UserError(f"mkqa: none of the {len(benchmark.questions)} questions of {benchmark.name} has an answer")
    if stage.leads and "digest" in benchmark.facts:
        write_json(stage.path / "digest.json", benchmark.facts["digest"])
    checkpoint = stage.inputs[MODEL]
    encoder = own_encoder(MODEL, checkpoint.path / "model", checkpoint.key, stage.tasks.max_length, params.batch_size, _device(stage), [],
                          prompts=stage.tasks.prompts)  # fmt: skip
    ask, read = (_prompt(encoder.model_prompts or {}, side) for side in ("query", "document"))
    accepted = list(dict.fromkeys(question.answers for question in questions))  # the same in every language: judged once
    shards = stage.path / "shards"
    encode_shards(
        shards, benchmark, lambda texts: encoder.raw([read + text for text in texts]), AnswerIndex(accepted, params.match), params
    )
    if not stage.leads:
        return None
    number = {answers: place for place, answers in enumerate(accepted)}
    asked = np.array([number[question.answers] for question in questions])
    queries = encoder.raw([ask + question.text for question in questions])
    scores, rows = search(shards, queries, params.top_k, stage.runtime.threads)
    passages = json.loads((shards / WHOLE).read_text(encoding="utf-8"))["passages"]
    hits, relevant = judge(rows, asked, matches(shards), passages)
    # the embedded leads were not made for these questions: what none of them answers is left out
    kept = np.flatnonzero(relevant) if params.source == "embedded" else np.arange(len(asked))
    if not relevant.any():
        raise UserError(f"mkqa: no passage of {benchmark.name} holds an answer to any of its {len(asked)} questions")
    np.savez(stage.path / "retrieved.npz", rows=rows[kept].astype(np.int32), scores=scores[kept])
    table = _values([questions[place] for place in kept], hits[kept], relevant[kept], passages, params.ideal)
    records.write(stage.path / "questions.parquet", table, QUESTIONS)
    found = summarise(table, stage.tasks.bootstrap, stage.tasks.seed)
    write_json(stage.path / "scores.json", found)
    return _results(stage, benchmark, passages, found)


def _values(questions: Sequence[Question], hits: np.ndarray, relevant: np.ndarray, passages: int, ideal: str) -> list[dict]:
    """Rows of questions.parquet."""
    values = (
        success_at(hits, 20),
        success_at(hits, 100),
        ndcg_at(hits, relevant if ideal == "corpus" else hits.sum(1)),
        relevant.astype(np.float64),
        *(chance_success_at(relevant, passages, k) for k in (20, 100)),
    )
    return [
        {"id": question.id, "lang": question.lang, "question": question.text, "answers": list(question.answers)}
        | {name: float(column[row]) for name, column in zip(COLUMNS, values, strict=True)}
        for row, question in enumerate(questions)
    ]


def _results(stage: Stage, benchmark: Benchmark, passages: int, found: list[dict]) -> dict:
    return {
        "protocol": "a passage that holds an answer string is relevant",
        "benchmark": benchmark.name,
        "source": stage.mkqa.source,
        "model": MODEL,
        "max_length": stage.tasks.max_length,
        "passages": passages,
        "questions_asked": len(benchmark.questions),
        "questions_scored": next(row["n"] for row in found if row["language"] == MEAN),
        **benchmark.facts,
        **{row["metric"]: {key: row[key] for key in ("value", "low", "high", "chance")} for row in found if row["language"] == MEAN},
    }


def _prompt(prompts: dict[str, str], side: str) -> str:
    """The prompt of a retrieval task for that side, by mteb's keys from the narrowest to the widest."""
    return next((prompts[key] for key in (f"Retrieval-{side}", "Retrieval", side) if key in prompts), "")


def _device(stage: Stage) -> str:
    """Each process of a launch takes a GPU of its own."""
    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if rank and stage.device == "cuda" else stage.device
