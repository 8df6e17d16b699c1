"""A corpus of millions of passages as shards on disk, and exact search through them one after the other.

Shard n is two files: n.matches.npy with the pairs (question, passage) of its passages that hold an answer, then n.npy with its vectors.
Each is written atomically, the vectors last, so a shard with vectors is whole: a killed encoding goes on with the first shard that lacks
them. Several processes may encode one corpus: each takes the next shard that nobody holds.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from conan_lib.data.records import batched
from conan_lib.errors import UserError
from conan_lib.files import held, replacing, write_json
from conan_lib.params.mkqa import MkqaParams
from conan_lib.topics.mkqa.data import Benchmark, Passage
from conan_lib.topics.mkqa.match import AnswerIndex, plain

WHOLE = "corpus.json"
"""Written when every shard is there: {passages, shards}."""
SLACK = 64
"""Passages kept beyond k while shards are merged: of passages that tie at the cut, the first ones of the corpus stay."""


def encode_shards(
    folder: Path, benchmark: Benchmark, encode: Callable[[list[str]], np.ndarray], answers: AnswerIndex, params: MkqaParams
) -> None:
    """Encode and judge every passage; returns when all shards are there, whoever made them.

    Args:
        folder: of the shards; made here.
        encode: texts to unit vectors, shape (N, D).
        answers: which question a passage answers.

    Raises:
        UserError: no passages, or a mistake in one of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wait = False  # the first time through, shards that others hold are left to them; the second time, waited for
    while not (folder / WHOLE).is_file():
        paths, passages = [], 0
        with tqdm(total=benchmark.size, desc="mkqa: passages", unit="passage") as progress:
            for number, block in enumerate(batched(benchmark.passages(), params.shard_size)):
                paths.append(folder / f"{number:05}.npy")
                passages += len(block)
                if paths[-1].is_file():
                    progress.initial += len(block)  # the rate counts what this attempt does
                else:
                    with held(folder / f"{number:05}.lock", wait) as ours:
                        if ours and not paths[-1].is_file():
                            _encode_shard(paths[-1], block, passages - len(block), encode, answers, params)
                progress.update(len(block))
        if not paths:
            raise UserError(f"mkqa: {benchmark.name} has no passages")
        if all(path.is_file() for path in paths):
            write_json(folder / WHOLE, {"passages": passages, "shards": len(paths)})
        wait = True


def _encode_shard(path: Path, block: list[Passage], first: int, encode: Callable, answers: AnswerIndex, params: MkqaParams) -> None:
    pairs = [(question, row) for row, passage in enumerate(block, first) for question in answers.answered_by(passage.text)]
    _save(path.with_suffix(".matches.npy"), np.array(pairs, dtype=np.int32).reshape(-1, 2))
    texts = [plain(passage.text).lower() if params.passage_text == "lower" else passage.text for passage in block]
    _save(path, encode(texts).astype(params.dtype))


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as new, open(new, "wb") as file:
        np.save(file, array)


def shard_paths(folder: Path) -> list[Path]:
    """The shards' vectors in the corpus' order."""
    return sorted(path for path in folder.glob("[0-9]*.npy") if not path.name.endswith(".matches.npy"))


def matches(folder: Path) -> np.ndarray:
    """All pairs (question, passage) such that the passage holds an answer, shape (M, 2)."""
    return np.concatenate([np.load(path.with_suffix(".matches.npy")) for path in shard_paths(folder)])


def search(folder: Path, queries: np.ndarray, k: int, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """The k passages of the largest inner product with each query, among all of the corpus; equal ones in the corpus' order.

    One shard is in memory at a time. The result does not depend on where shards end, up to rounding in the last bits of a float32 and more
    than SLACK passages that tie at the cut.

    Args:
        queries: float32, shape (Q, D).

    Returns:
        scores, float32, and rows, int64: shape (Q, min(k, N)), best first.
    """
    import faiss

    faiss.omp_set_num_threads(threads)
    scores, rows, first = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64), 0
    for path in tqdm(shard_paths(folder), desc="mkqa: search", unit="shard"):
        vectors = np.ascontiguousarray(np.load(path, mmap_mode="r"), dtype=np.float32)
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        found, places = index.search(queries, min(k + SLACK, len(vectors)))
        scores, rows = np.hstack([scores, found]), np.hstack([rows, places + first])
        order = np.lexsort((rows, -scores))[:, : k + SLACK]
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
        first += len(vectors)
    return scores[:, :k], rows[:, :k]
