"""Pairs of made-up sentences, written as finished training sets, and an untrained encoder, for tests of contrastive training."""

import numpy as np
from sentence_transformers import SentenceTransformer

from conan_lib.data import records
from conan_lib.data.teacher import SCHEMA
from conan_lib.model.backbone import build, export, save, to_sentence_transformer
from conan_lib.model.tokenizer import load_tokenizer, train_tokenizer
from conan_lib.params import Params
from conan_lib.stages import open_stage
from tests.small_corpus import WORDS, finish_data, sentence, small_params, write_sets

PASSAGES = 40


def pair_params(root, **sections) -> Params:
    """A run of seconds: every task has a share, four negatives, two query languages a passage."""
    supervised = {
        "learning_rate": 1e-2,
        "max_length": 32,
        "max_steps": 14,
        "mix": {"retrieval": 2, "clr": 2, "sts": 1, "classification": 1, "clustering": 1},
        "task_batch_size": {"retrieval": 4, "clr": 6, "sts": 6, "classification": 4, "clustering": 4},
        "hard_negatives": 3,
        "clr_queries": 2,
        "matryoshka_dims": [8, 16],
        **sections.pop("supervised", {}),
    }
    weak = {"learning_rate": 1e-2, "max_length": 32, "max_steps": 12, "batch_size": 6, **sections.pop("weak", {})}
    mine = {"candidates": 8, "skip_ranks": 1, **sections.pop("mine", {})}
    return small_params(root, weak=weak, mine=mine, supervised=supervised, data={"languages": list(WORDS)}, **sections)


def tables() -> dict[str, list[dict]]:
    """Training sets, by name."""
    random = np.random.default_rng(2)
    passages = [sentence("en", random) for _ in range(PASSAGES)]
    corpus = [{"id": f"p{i}", "text": text, "lang": "en", "source": "made up"} for i, text in enumerate(passages)]

    def pair(task: str, number: int, language: str) -> dict:
        passage = corpus[number]
        ids = {"id": f"{task}-{language}-{number}", "positive_id": passage["id"], "source_anchor_id": f"q{number}"}
        return ids | {"anchor": sentence(language, random, 5), "positive": passage["text"], "lang": language, "source": "made up"}

    words = ("water", "bread", "stars")
    labels = [
        {
            "anchor": sentence("en", random, 4),
            "positive": words[i % 3],
            "negatives": [words[(i + 1) % 3]],
            "label": words[i % 3],
            "set": "s",
            "lang": "en",
            "source": "made up",
        }
        for i in range(30)
    ]
    return {
        "weak": [{"id": f"w{i}", "anchor": t[:20], "positive": t, "lang": "en", "source": "made up"} for i, t in enumerate(passages)],
        "retrieval": [pair("retrieval", number, "en") for number in range(PASSAGES // 2)],
        "clr": [pair("clr", number, language) for number in range(PASSAGES) for language in ("de", "zh")],
        "passages": corpus,
        "sts": [
            {"anchor": sentence("en", random), "positive": sentence("en", random), "score": float(s), "lang": "en", "source": "made up"}
            for s in random.random(20)
        ],
        "labels": [row | {"id": f"{task} {i}", "task": task} for i, row in enumerate(labels) for task in ("classification", "clustering")],
    }


def finish_sets(params: Params) -> None:
    """Commit the text, the training sets and the teacher's scores of a run."""
    finish_data(params)
    write_sets(open_stage("sets", params), tables())
    teacher = open_stage("teacher", params)
    with teacher.work() as work:
        scores = [{"id": row["id"], "score": i / PASSAGES, "teacher": "wordllama"} for i, row in enumerate(tables()["weak"])]
        records.write(teacher.path / "scores.parquet", scores, SCHEMA)
        work.commit({})


def finish_inputs(params: Params) -> None:
    """Commit the stages before `weak`, with a model of random weights in the place of the fine-tuned one."""
    finish_sets(params)
    tokenizer = load_tokenizer(train_tokenizer(open_stage("tokenizer", params)).path / "tokenizer")
    for name in ("pretrain", "sft"):
        stage = open_stage(name, params)
        with stage.work() as work:
            save(build(params.backbone, len(tokenizer), 0), tokenizer, stage.path / "model")
            work.commit({})


def finish_weak(params: Params) -> None:
    """Commit `weak` with an untrained encoder."""
    finish_inputs(params)
    weak = open_stage("weak", params)
    with weak.work() as work:
        export(to_sentence_transformer(weak.inputs["sft"].path / "model", "mean", 32), weak.path / "model")
        work.commit({})


def small_encoder(folder) -> SentenceTransformer:
    """An untrained encoder of width 16 on the made-up sentences, the same at every call for a folder."""
    params = pair_params(folder)
    if not open_stage("sft", params).finished:
        finish_inputs(params)
    return to_sentence_transformer(open_stage("sft", params).path / "model", "mean", 32, device="cpu")
