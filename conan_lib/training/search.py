"""The search for hard negatives: what is searched with what, in numbers; the texts stay where they are."""

import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from conan_lib.data.places import SIZE, Places, digest, digests, grouped
from conan_lib.data.records import batched
from conan_lib.params.training import MineParams
from conan_lib.training.batches import check_prompt
from conan_lib.training.tasks import TASKS, Row, TaskSpec, View

KEY = f"S{SIZE}"
ASKED_AT_ONCE = 1024
"""Queries whose scores are in memory."""
AT_ONCE = 1 << 17
"""Texts that are encoded in one call, which sorts them by length, and passages that a block of queries is compared with."""


@dataclass(frozen=True)
class Query:
    """What one pool is searched with.

    Attributes:
        pool: its id.
        text: the anchor, or the passage.
        excluded: texts that are no negatives of it.
        given: negatives that its rows bring.
        prompt: the anchor's own; None: the model's for queries.
    """

    pool: str
    text: str
    excluded: frozenset[str] = frozenset()
    given: tuple[str, ...] = ()
    prompt: str | None = None


def with_pools(names: Iterable[str]) -> list[str]:
    """The tasks among these that have pools."""
    return [name for name in names if TASKS[name].negatives == "pool"]


class Search:
    """What is searched, and with what: all that mining needs beside a model.

    A pool is searched with its anchor or its passage (see TaskSpec) among passages of the passage's language. The positive, its equals in
    text, and every positive of an anchor with the same text are left out; then the best `skip_ranks` are passed over. The negatives that a
    row brings join the passages, and stand before what is found in its own pool.

    Rows and corpus are read by number and may lie on disk. In memory is, for each row or passage, about 100 bytes.

    Args:
        rows: by task; tasks without pools are passed over.
        corpus: passages, rows with text, and as they have them id and lang.

    Attributes:
        queries: one for each pool, made when it is asked for.
        texts: the passages: those of the corpus, then the others that rows bring.
    """

    def __init__(self, rows: Mapping[str, Sequence[Row]], corpus: Sequence[Row], options: MineParams):
        self.options = options
        self._rows = [(TASKS[name], TASKS[name].checked(rows[name])) for name in with_pools(rows)]
        self._starts = np.cumsum([0, *(len(own) for _, own in self._rows)])
        codes: dict[str, int] = {}
        passages = np.fromiter(
            ((codes.setdefault(row.get("lang", ""), len(codes)), digest(row["text"]), _id(row, "id")) for row in corpus),
            [("lang", "i4"), ("text", KEY), ("id", KEY)],
        )
        own = np.fromiter(self._keys_of_rows(), [("pool", KEY), ("anchor", KEY), ("positive_id", KEY), ("positive", KEY), ("brings", bool)])
        self._order, self._bounds = grouped(own["pool"])
        self._asked, known = Places(own["anchor"]), Places(passages["text"])
        first, unknown = self._order[self._bounds[:-1]], codes.setdefault("", len(codes))
        by_id, by_text = Places(passages["id"]).last(own["positive_id"][first]), known.last(own["positive"][first])
        self._passage_language = passages["lang"]
        language = np.append(passages["lang"], unknown)  # place -1 is none
        self._names, self._language = list(codes), np.where(by_id >= 0, language[by_id], language[by_text])
        self.queries: Sequence[Query] = View(range(len(first)), lambda pool, _: self._query(pool))
        bringing = np.unique(np.repeat(np.arange(len(first)), np.diff(self._bounds))[own["brings"][self._order]])
        self._given = np.fromiter(
            ((pool, digest(text), row, number) for pool in bringing.tolist() for text, (row, number) in self._brought(pool).items()),
            [("pool", "i8"), ("text", KEY), ("row", "i8"), ("number", "i4")],
        )
        new = self._given[known.last(self._given["text"]) < 0]
        order, bounds = grouped(new["text"])
        new = new[order[bounds[:-1]]]
        self._keys = np.concatenate([passages["text"], new["text"]])

        def text(place: int, _: int) -> str:
            if place < len(corpus):
                return corpus[place]["text"]
            row, number = new[["row", "number"]][place - len(corpus)].item()
            return self._row(row)[1]["negatives"][number]

        self.texts: Sequence[str] = View(range(len(self._keys)), text)

    def _keys_of_rows(self) -> Iterator[tuple]:
        for spec, own in self._rows:
            for row in own:
                anchor = digest(row["anchor"]) if spec.pool_by == "anchor" else b""
                yield digest(spec.pool_id(row)), anchor, _id(row, "positive_id"), digest(row["positive"]), bool(row.get("negatives"))

    def _row(self, number: int) -> tuple[TaskSpec, Row]:
        task = int(np.searchsorted(self._starts, number, "right")) - 1
        spec, own = self._rows[task]
        return spec, own[number - int(self._starts[task])]

    def _rows_of(self, pool: int) -> list[tuple[int, TaskSpec, Row]]:
        return [(row, *self._row(row)) for row in self._order[self._bounds[pool] : self._bounds[pool + 1]].tolist()]

    def _excluded(self, spec: TaskSpec, row: Row) -> frozenset[str]:
        if spec.pool_by == "passage":
            return frozenset({spec.query(row)})
        return frozenset({row["anchor"], *(self._row(other)[1]["positive"] for other in self._asked[row["anchor"]].tolist())})

    def _brought(self, pool: int) -> dict[str, tuple[int, int]]:
        """The negatives that a pool is given, in order: text -> its row, and its number there."""
        found: dict[str, tuple[int, int]] = {}
        for number, spec, row in self._rows_of(pool):
            if negatives := row.get("negatives"):
                excluded = self._excluded(spec, row)
                for place, text in enumerate(negatives):
                    if text not in excluded:
                        found.setdefault(text, (number, place))
        return found

    def _query(self, pool: int) -> Query:
        rows = self._rows_of(pool)
        _, spec, first = rows[0]
        prompts = [row.get("prompt") for _, own, row in rows if own.pool_by == "anchor"]
        prompt = prompts[-1] if prompts else None
        return Query(spec.pool_id(first), spec.query(first), self._excluded(spec, first), tuple(self._brought(pool)), prompt)

    def rank(self, model: SentenceTransformer, progress: bool = True) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Pool ids (P), and every pool's candidates (P, K), best first behind those that were given, with their cosines (P, K), language by
        language."""
        ids, candidates, scores = [], [], []
        for code in sorted(np.unique(self._language).tolist(), key=self._names.__getitem__):
            own = np.flatnonzero(self._language == code)
            few = np.flatnonzero(self._passage_language == code)[: self.options.max_corpus]
            # given negatives are searched whatever the limit, also those that the corpus holds beyond it or in another language
            given = self._given["text"][np.isin(self._given["pool"], own)]
            beyond = np.flatnonzero(np.isin(self._keys, given) & ~np.isin(self._keys, self._keys[few]))
            order, bounds = grouped(self._keys[beyond])
            rows = np.append(few, beyond[order[bounds[1:] - 1]])
            queries = View(self.queries, lambda _, query: query, own)
            texts = View(self.texts, lambda _, text: text, rows)
            found, similarity = search(model, queries, texts, self.options.candidates, self.options.skip_ranks, progress)
            ids += [spec.pool_id(row) for spec, row in (self._row(number) for number in self._order[self._bounds[own]].tolist())]
            candidates.append(np.append(rows, -1)[found])  # place -1 is none
            scores.append(similarity)
        width = max((found.shape[1] for found in candidates), default=self.options.candidates)
        return ids, _stacked(candidates, width, -1), _stacked(scores, width, np.nan)


def _id(row: Row, field: str) -> bytes:
    return digest(str(row[field])) if field in row else b""


def _stacked(parts: list[np.ndarray], width: int, fill: float) -> np.ndarray:
    """Arrays (P_i, K_i) one below the other, filled up to K at their ends; (0, K) of none."""
    filled = [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=fill) for part in parts]
    return np.concatenate(filled) if filled else np.full((0, width), fill)


class _Columns:
    """Some passages of each query: `columns`, and where those of a query end."""

    def __init__(self):
        self.columns, self.ends = array("q"), array("q", [0])

    def add(self, columns: Iterable[int]) -> None:
        self.columns.extend(columns)
        self.ends.append(len(self.columns))

    def within(self, queries: range, passages: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of a block: places in `columns`, and there the query and the passage, counted from the block's first."""
        ends = np.asarray(self.ends)[queries.start : queries.stop + 1]
        columns = np.asarray(self.columns)[ends[0] : ends[-1]] - passages.start
        own = (columns >= 0) & (columns < len(passages))
        rows = np.repeat(np.arange(len(queries)), np.diff(ends))
        return np.flatnonzero(own) + ends[0], rows[own], columns[own]


def search(
    model, queries: Sequence[Query], passages: Sequence[str], wanted: int, skipped: int, progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """What each query was given, then its `wanted` best passages after the `skipped` best, without the excluded ones -> places (Q, K), -1
    for none, and their cosines (Q, K), NaN for none. What is given must be among the passages."""
    places, given, left_out = Places(digests(passages)), _Columns(), _Columns()
    for query in queries:
        given.add(int(places[text][0]) for text in query.given)
        left_out.add(place for text in (*query.excluded, *query.given) for place in places[text].tolist())
    vectors = _Vectors(model, passages, queries, progress)
    depth = min(wanted + skipped, len(passages))
    values = np.full((len(queries), depth), -np.inf, dtype=np.float32)
    best = np.full((len(queries), depth), -1)
    brought = np.full(len(given.columns), np.nan, dtype=np.float32)
    for some in _blocks(len(passages), AT_ONCE):
        index = vectors[some]
        for block in _blocks(len(queries), ASKED_AT_ONCE):
            scores = vectors[range(len(passages) + block.start, len(passages) + block.stop)] @ index.T
            number, *pair = given.within(block, some)
            brought[number] = scores[tuple(map(torch.from_numpy, pair))].cpu().numpy()
            scores[tuple(map(torch.from_numpy, left_out.within(block, some)[1:]))] = -torch.inf
            top = scores.topk(min(depth, len(some)), dim=1)
            rows = slice(block.start, block.stop)
            values[rows], best[rows] = _better(values[rows], best[rows], top.values.cpu().numpy(), top.indices.cpu().numpy() + some.start)
    width = wanted + max(np.diff(np.asarray(given.ends)), default=0)
    found, cosine = np.full((len(queries), width), -1), np.full((len(queries), width), np.nan, dtype=np.float32)
    for row, (start, stop) in enumerate(zip(given.ends[:-1], given.ends[1:], strict=True)):
        kept = np.isfinite(values[row, skipped:])
        end = stop - start + int(kept.sum())
        found[row, :end] = [*given.columns[start:stop], *best[row, skipped:][kept]]
        cosine[row, :end] = [*brought[start:stop], *values[row, skipped:][kept]]
    return found, cosine


def _blocks(count: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def _better(values: np.ndarray, places: np.ndarray, more: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best of two rankings, both (B, depth) or shorter, best first; of equal scores the first ranking's come first."""
    values, places = np.append(values, more, 1), np.append(places, there, 1)
    order = np.argsort(-values, 1, "stable")[:, : values.shape[1] - more.shape[1]]
    return np.take_along_axis(values, order, 1), np.take_along_axis(places, order, 1)


class _Vectors:
    """Unit vectors of passages and then of queries, each distinct text encoded once, under a query's own prompt or that of its side which
    the model brings. They are in a file without a name."""

    def __init__(self, model: SentenceTransformer, passages: Sequence[str], queries: Sequence[Query], progress: bool):
        self._device = model.device
        options = {"batch_size": 128 if model.device.type == "cpu" else 512, "convert_to_tensor": True, "normalize_embeddings": True}
        document, query = (model.prompts.get(side) or "" for side in ("document", "query"))
        prompts: dict[str, int] = {}
        sides = chain(((document, text) for text in passages), ((one.prompt or query, one.text) for one in queries))
        keys = np.fromiter(
            ((prompts.setdefault(prompt, len(prompts)), digest(text)) for prompt, text in sides), [("prompt", "i4"), ("text", KEY)]
        )
        self._row, self._count = np.empty(len(keys), np.int64), 0
        for prompt in prompts if model.max_seq_length else ():
            check_prompt("mining with the model as it is", model.tokenizer, prompt, model.max_seq_length)
        text = lambda place: passages[place] if place < len(passages) else queries[place - len(passages)].text  # noqa: E731
        with tempfile.TemporaryFile() as file:
            dtype = np.float32
            for prompt, code in prompts.items():
                own = np.flatnonzero(keys["prompt"] == code)
                order, bounds = grouped(keys["text"][own])
                self._row[own[order]] = self._count + np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
                self._count += len(bounds) - 1
                for some in batched(map(text, own[order[bounds[:-1]]].tolist()), AT_ONCE):
                    found = model.encode(some, show_progress_bar=progress, prompt=prompt or None, **options)
                    found = (found.float() if found.dtype == torch.bfloat16 else found).cpu().numpy()
                    dtype = found.dtype
                    file.write(found.tobytes())
            file.flush()
            self._vectors = np.memmap(file, dtype, "r").reshape(self._count, -1)

    def __getitem__(self, some: range) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self._vectors[self._row[some.start : some.stop]])).to(self._device)
