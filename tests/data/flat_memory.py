"""How much more memory a run takes when there are more data:

    python tests/data/flat_memory.py 30000

makes that many documents and pairs, runs the stages from corpus to supervised on them (the model is tiny, and trained for a few steps), and
prints the peak of the process in MB after each. What is kept in memory up to a limit has a low one here, so that few data reach it.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from conan_lib.data import ondisk, records, teacher
from conan_lib.data.build import build_corpus, build_sets
from conan_lib.environment import peak_memory_mb
from conan_lib.model.backbone import build, save
from conan_lib.model.tokenizer import load_tokenizer, train_tokenizer
from conan_lib.params import Params
from conan_lib.stages import compute, open_stage
from conan_lib.training import lm, search
from conan_lib.training.lm import pack_documents

SHARDS = 4
STEPS = {"max_steps": 3, "batch_size": 8}


def written(folder: Path, count: int) -> list[dict]:
    """`count` documents in parquet shards and as many pairs in a file, and their rows of data.sets."""
    rng = np.random.default_rng(count)
    words = np.array([f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("n", "r", "st", "lo", "mi")])

    def sentence(length: int) -> str:
        return " ".join(rng.choice(words, length))

    (folder / "text").mkdir(parents=True)
    for shard in range(SHARDS):
        texts = [f"{sentence(30)}. {sentence(30)}." for _ in range(shard, count, SHARDS)]
        pq.write_table(pa.table({"text": texts}), folder / "text" / f"{shard}.parquet", row_group_size=1000)
    with open(folder / "pairs.jsonl", "w") as file:
        for _ in range(count):
            file.write(json.dumps({"title": sentence(6), "content": sentence(30)}) + "\n")
    common = {"lang": "en", "clean": False}
    pairs = {"from": str(folder / "pairs.jsonl"), **common}
    fields = {"weak": ("anchor", "positive"), "sft": ("input", "output"), "retrieval": ("anchor", "positive")}
    tasks = [{**pairs, "task": task, "name": task, "columns": {a: "title", b: "content"}} for task, (a, b) in fields.items()]
    return [{"from": str(folder / "text"), "task": "text", **common}, *tasks]


def run(folder: Path, count: int) -> dict:
    """The data of a run on so many documents and pairs; returns the rows that were written and the peak after each stage."""
    data = {"sets": written(folder, count), "languages": ["en"], "max_documents": 10**9}
    params = Params.model_validate(
        {
            "tier": "test",
            "data": data,
            "sets": dict.fromkeys(("weak_pairs", "sft_records", "retrieval_pairs"), 10**9),
            "tokenizer": {"vocab_size": 400, "sample_texts": 200},
            "backbone": {"layers": 1, "hidden_size": 16, "heads": 2, "kv_heads": 1, "ffn_size": 32, "context_length": 512},
            "pretrain": {"max_length": 64, "batch_size": 4, "max_steps": 10**6},
            "sft": {"max_length": 48, **STEPS},
            "weak": {"max_length": 32, **STEPS},
            "mine": {"candidates": 8, "max_corpus": 10**9},
            "supervised": {"max_length": 32, "mix": {"retrieval": 1}, "matryoshka_dims": [16], "hard_negatives": 3, **STEPS},
            "efficiency": {"dims": [8]},
            "runtime": {"artefacts": str(folder / "artefacts"), "threads": 1},
        }
    )
    corpus, sets, tokenizer = (open_stage(name, params) for name in ("corpus", "sets", "tokenizer"))
    peaks = {"before": peak_memory_mb()}
    rows = dict(build_corpus(corpus).results["rows"])
    peaks["corpus"] = peak_memory_mb()
    rows |= build_sets(sets).results["rows"]
    peaks["sets"] = peak_memory_mb()
    train_tokenizer(tokenizer)
    peaks["tokenizer"] = peak_memory_mb()
    start = load_tokenizer(tokenizer.path / "tokenizer")
    blocks = pack_documents(corpus.path / "documents.parquet", start, params.pretrain, folder / "tokens", 1)
    peaks["tokens"] = peak_memory_mb()
    pretrained = open_stage("pretrain", params)
    with pretrained.work() as work:
        save(build(params.backbone, len(start), 0), start, pretrained.path / "model")
        work.commit({})
    for name in ("sft", "teacher", "weak", "mine", "supervised"):
        compute(open_stage(name, params))
        peaks[name] = peak_memory_mb()
    return {"documents": rows["documents"], "weak": rows["weak"], "blocks": len(blocks), "peaks": peaks}


if __name__ == "__main__":
    ondisk.CACHE, records.AT_ONCE, search.AT_ONCE, search.ASKED_AT_ONCE, lm.HELD_OUT_MAX = 1, 256, 64, 64, 4
    teacher.wordllama_scores = lambda texts: (1 / len(text) for _, text in texts)  # its tokenizer remembers the last 10,000 texts, 70 MB
    count, begun = int(sys.argv[1]), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        rows = run(Path(name), count)
    print(json.dumps({"count": count, **rows, "seconds": round(time.perf_counter() - begun, 1)}), flush=True)
