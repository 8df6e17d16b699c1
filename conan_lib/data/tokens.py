"""Documents as tokens on disk: shards that many processes write, whose sums are checked, and that are mapped into memory when read."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from conan_lib.data.records import AT_ONCE, Rows
from conan_lib.data.workers import parallel
from conan_lib.files import lock, replacing, write_json

if TYPE_CHECKING:  # slow to import, and the processes that write shards do without
    from transformers import PreTrainedTokenizerBase

SHARD = 65_536
"""Rows of documents.parquet that a shard covers, rounded to row groups: what a kill loses, and what a process has to do at a time."""


def measured(documents: Path, split: str, without: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row in the table, language and characters of each document of a split, without those of some kinds; shape (documents,) each."""
    rows, languages, sizes, first = [], [], [], 0
    for batch in Rows(documents, ("split", "kind", "lang", "text")).batches():
        own = pc.and_not(pc.equal(batch["split"], split), pc.is_in(batch["kind"], pa.array(without, pa.string())))
        rows.append(first + np.flatnonzero(own.to_numpy(zero_copy_only=False)))
        languages.append(np.array(batch["lang"].filter(own).to_pylist(), dtype=str))
        sizes.append(pc.utf8_length(batch["text"].filter(own)).to_numpy(zero_copy_only=False))
        first += len(batch)
    empty = np.zeros(0, np.int64)
    return np.concatenate([empty, *rows]), np.concatenate([empty.astype(str), *languages]), np.concatenate([empty, *sizes])


class Tokens(Sequence):
    """Documents of some shards, in order; a document is a read-only array (length,) of its ids.

    Args:
        shards: what `_shard` left, by the name of its files.
        dtype: of the ids.
    """

    def __init__(self, shards: Sequence[Path], dtype: np.dtype):
        lengths = [np.fromfile(shard.with_suffix(".lengths"), np.uint32) for shard in shards]
        self.lengths = np.concatenate([np.zeros(0, np.uint32), *lengths])
        self._first = np.cumsum([0, *map(len, lengths)])
        self._ends = np.concatenate([np.zeros(0, np.int64), *(np.cumsum(own, dtype=np.int64) for own in lengths)])
        self._ids = [
            np.memmap(shard.with_suffix(".ids"), dtype, "r") if own.any() else [] for shard, own in zip(shards, lengths, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> np.ndarray:
        shard = np.searchsorted(self._first, number, "right") - 1
        end = self._ends[number]
        return self._ids[shard][end - self.lengths[number] : end]


def tokenised(documents: Path, rows: np.ndarray, tokenizer: "PreTrainedTokenizerBase", folder: Path, workers: int) -> Tokens:
    """Tokens of some documents, special ones included; what a killed process wrote to the folder is used again.

    Args:
        documents: documents.parquet.
        rows: of the documents in that table; the result has them in the table's order.
        tokenizer: whatever it adds to a text is added.
        folder: keeps the shards. One process at a time writes there; the others of a launch wait, and find them.
        workers: processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = pq.ParquetFile(documents).metadata
    starts = np.cumsum([0, *(groups.row_group(group).num_rows for group in range(groups.num_row_groups))])
    wanted = np.zeros(starts[-1], bool)
    wanted[rows] = True
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32)
    backend, literal = tokenizer.backend_tokenizer, bool(tokenizer.split_special_tokens)
    each, tasks = max(1, SHARD // AT_ONCE), []
    for first in range(0, groups.num_row_groups, each):
        own = range(first, min(first + each, groups.num_row_groups))
        tasks.append(
            (documents, list(own), wanted[starts[own[0]] : starts[own[-1] + 1]], backend, literal, dtype, folder / f"{first // each:06}")
        )
    with open(folder / ".lock", "w") as file:
        lock(file)
        parallel(_shard, [task for task in tasks if not _whole(task[-1], task[2])], workers)
    return Tokens([task[-1] for task in tasks], dtype)


def _shard(
    documents: Path, groups: list[int], wanted: np.ndarray, tokenizer: Tokenizer, literal: bool, dtype: np.dtype, path: Path
) -> None:
    """Write the wanted documents of some row groups: `.ids` end to end, their `.lengths`, and last the sums of both as `.json`."""
    tokenizer.encode_special_tokens = literal  # a copy in another process has forgotten it
    with replacing(path.with_suffix(".ids")) as new, open(new, "wb") as ids, pq.ParquetFile(documents) as file:
        lengths, first = [], 0
        for batch in file.iter_batches(AT_ONCE, row_groups=groups, columns=["text"]):
            texts = batch["text"].filter(pa.array(wanted[first : first + len(batch)])).to_pylist()
            first += len(batch)
            for encoding in tokenizer.encode_batch_fast(texts):
                lengths.append(ids.write(np.array(encoding.ids, dtype)) // dtype.itemsize)
    with replacing(path.with_suffix(".lengths")) as new:
        np.array(lengths, np.uint32).tofile(new)
    write_json(path.with_suffix(".json"), _sums(path, wanted))


def _sums(path: Path, wanted: np.ndarray) -> dict[str, str]:
    sums = {"wanted": hashlib.sha256(wanted.tobytes()).hexdigest()}
    for name in ("ids", "lengths"):
        with open(path.with_suffix(f".{name}"), "rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def _whole(path: Path, wanted: np.ndarray) -> bool:
    """Whether an earlier attempt wrote a shard of these documents, and nothing has changed it since."""
    try:
        return json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) == _sums(path, wanted)
    except (FileNotFoundError, ValueError):
        return False
