"""How much more memory the data of a run take when there is more of them:

    python tests/data/flat_memory.py 300 30000

makes that many documents and pairs, runs the stages corpus, sets and tokenizer on each in one process, tokenises the training documents,
and prints the peak of the process in MB after each.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from conan_lib.data import ondisk
from conan_lib.data.build import build_corpus, build_sets
from conan_lib.environment import peak_memory_mb
from conan_lib.model.tokenizer import load_tokenizer, train_tokenizer
from conan_lib.params import Params
from conan_lib.stages import open_stage
from conan_lib.training.lm import pack_documents

SHARDS = 4


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
    return [{"from": str(folder / "text"), "task": "text", **common}, {"from": str(folder / "pairs.jsonl"), "task": "weak", **common}]


def run(folder: Path, count: int) -> dict:
    """The data of a run on so many documents and pairs; returns the rows that were written and the peak after each stage."""
    data = {"sets": written(folder, count), "languages": ["en"], "max_documents": 10**9}
    params = Params.model_validate(
        {
            "tier": "test",
            "data": data,
            "sets": {"weak_pairs": 10**9},
            "tokenizer": {"vocab_size": 400, "sample_texts": 200},
            "pretrain": {"max_length": 64, "batch_size": 4, "max_steps": 10**6},
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
    return {"documents": rows["documents"], "weak": rows["weak"], "blocks": len(blocks), "peaks": peaks}


if __name__ == "__main__":
    ondisk.CACHE = 1  # so that both sizes fill it
    for count in map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as name:
            begun = time.perf_counter()
            rows = run(Path(name), count)
            seconds = round(time.perf_counter() - begun, 1)
            print(json.dumps({"count": count, **rows, "seconds": seconds}), flush=True)
