"""Tokens per second of the shards that pretraining reads, beside the simple loops of nanochat and litgpt, in one run.

    python -m benchmarks.tokens documents.parquet tokenizer/

Writes tokens.json below benchmarks/results/cpu/. All arms read the same table with the same tokenizer. `ours` is data/tokens.py: shards on
disk, checked by their sums. `nanochat` reads a batch of texts, encodes it on all threads, puts <s> in front and extends a list, as its
loader does; nothing is kept, so nothing can be resumed. `litgpt` encodes document by document into a tensor and appends them to a file, as
its preparation of a data set does in each of its processes. Both loops are written after those programs, and are not their code. Arms take
turns in going first; the figures are medians and quartiles over the repeats.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from benchmarks.results import quartiles
from conan_lib.data.tokens import measured, tokenised
from conan_lib.environment import environment
from conan_lib.files import write_json

RESULTS = Path(__file__).parent / "results" / "cpu"
BATCH = 128
"""Texts in a call of nanochat's loop: its `tokenizer_batch_size`."""


def texts_of(documents: Path) -> Iterator[list[str]]:
    """The texts of split train, BATCH at a time."""
    for batch in pq.ParquetFile(documents).iter_batches(BATCH, columns=["text", "split"]):
        yield [row["text"] for row in batch.to_pylist() if row["split"] == "train"]


def ours(documents: Path, tokenizer: PreTrainedTokenizerBase, folder: Path, workers: int) -> int:
    rows, *_ = measured(documents, "train")
    return int(tokenised(documents, rows, tokenizer, folder, workers).lengths.sum())


def nanochat(documents: Path, tokenizer: PreTrainedTokenizerBase, folder: Path, workers: int) -> int:
    buffer, count = [], 0
    for texts in texts_of(documents):
        for encoding in tokenizer.backend_tokenizer.encode_batch(texts):
            buffer.extend(encoding.ids)
        while len(buffer) >= 65_536:  # a batch of training takes them
            count += len(torch.tensor(buffer[:65_536]))
            buffer = buffer[65_536:]
    return count + len(buffer)


def litgpt(documents: Path, tokenizer: PreTrainedTokenizerBase, folder: Path, workers: int) -> int:
    count = 0
    folder.mkdir()
    with open(folder / "tokens", "wb") as file:
        for texts in texts_of(documents):
            for text in texts:
                ids = torch.tensor(tokenizer.backend_tokenizer.encode(text).ids, dtype=torch.int32)
                file.write(ids.numpy().tobytes())
                count += len(ids)
    return count


ARMS: dict[str, Callable] = {"ours": ours, "nanochat": nanochat, "litgpt": litgpt}


def measure(documents: Path, tokenizer: PreTrainedTokenizerBase, workers: int, repeats: int) -> dict[str, dict[str, float]]:
    """Arm -> tokens, and tokens per second: median and quartiles."""
    tokenizer.backend_tokenizer.encode_special_tokens = True
    rates: dict[str, list[float]] = {name: [] for name in ARMS}
    counts = {}
    for repeat in range(repeats):
        names = list(ARMS)
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            with tempfile.TemporaryDirectory() as folder:
                begun = time.perf_counter()
                counts[name] = ARMS[name](documents, tokenizer, Path(folder) / "tokens", workers)
                rates[name].append(counts[name] / (time.perf_counter() - begun))
    if len(set(counts.values())) > 1:
        raise AssertionError(f"the arms read different texts: {counts}")
    found = {}
    for name, own in rates.items():
        q1, median, q3 = quartiles(own)
        found[name] = {"tokens": counts[name], "tokens_per_second": round(median), "q1": round(q1), "q3": round(q3)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "tokens.json")
    given = parser.parse_args()
    arms = measure(given.documents, AutoTokenizer.from_pretrained(given.tokenizer), given.workers, given.repeats)
    facts = environment()
    result = {
        "documents": len(measured(given.documents, "train")[0]),
        "workers": given.workers,
        "threads": os.environ.get("RAYON_NUM_THREADS") or os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "repeats": given.repeats,
        "date": datetime.now(UTC).date().isoformat(),
        **{name: facts[name] for name in ("machine", "python", "revision") if name in facts},
        "arms": arms,
    }
    write_json(given.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
