"""Task-homogeneous batches for contrastive training.

A step trains one task. The sampler says which rows make the step; the collator turns them into the DISTINCT texts of the batch, each
tokenised and encoded once, and index tensors that say which text plays which part. So a passage with eight translated queries, or a hard
negative that several anchors share, costs one encoding, and the gradient is the same as if it were encoded for each of them.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import numpy as np
import torch
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.modules import Pooling

from conan_lib.data.places import SIZE, digest, grouped
from conan_lib.errors import UserError

CHUNK, GPU_CHUNK = 32, 256
"""Texts that are padded together: a batch's texts are sorted by length and cut into chunks, which saves about a third of the padding. On a
GPU each chunk costs the launch of every kernel of the model anew, which 32 short texts do not fill."""


@dataclass(frozen=True)
class Task:
    """Rows of one task, ready to train: anchor and positive; negatives (texts) or pool (a number of the negatives' pool) where there are
    any; score where the loss is CoSENT; prompt where the anchor's is another than the task's."""

    name: str
    rows: Sequence[dict[str, Any]]
    batch_size: int
    share: float = 1.0
    group_size: int = 1
    """Rows with the same `group` that come together in a batch: translations of one query."""
    loss: Literal["infonce", "cosent"] = "infonce"
    prompts: tuple[str, str] = ("", "")
    """What stands before anchors, and before positives and negatives."""
    all_prompts: frozenset[str] = field(init=False)
    """The same with those of single rows."""
    groups: tuple[np.ndarray, np.ndarray] = field(init=False)
    """Numbers of the rows, group by group, and where each group begins; see `grouped`."""

    def __post_init__(self):
        if len(self.rows) < self.batch_size:
            raise UserError(
                f"task {self.name}: {len(self.rows)} rows are less than a batch of {self.batch_size}: lower its batch size or add data"
            )
        lengths, prompts = set(), set(self.prompts)

        def look(number: int, row: dict[str, Any]) -> bytes:
            if "pool" not in row and "negatives" in row:
                lengths.add(len(row["negatives"]))
            if row.get("prompt"):
                prompts.add(row["prompt"])
            return digest(repr(row.get("group", number)))

        groups = np.fromiter(map(look, count(), self.rows), f"S{SIZE}", len(self.rows))
        if len(lengths) > 1:
            raise UserError(f"task {self.name}: negatives: all rows must bring equally many, not {min(lengths)} to {max(lengths)}")
        object.__setattr__(self, "all_prompts", frozenset(prompts))
        object.__setattr__(self, "groups", grouped(groups))


class TaskBatchSampler(DefaultBatchSampler):
    """The whole run as one epoch of `max_steps` batches, the same for a given seed whatever happens in between.

    Tasks take their turns so that after any number of steps each has had its share to within one batch (the largest-deficit rule, no
    randomness). Within a task, groups are shuffled; when all have been seen they are shuffled anew, those of the last batch going to the
    end, so that an anchor is never in two batches of its task in a row.

    Args:
        companion: number of a task that takes no turns: every batch of another task is followed by one of its batches (v1's balance).
        temperature: shares are raised to 1 / temperature: 1 leaves them, a large one makes all tasks equal.
        world: processes. accelerate deals the batches out to them in turn, so each comes this many times: every process reads every batch.
    """

    def __init__(
        self, tasks: list[Task], max_steps: int, seed: int, companion: int | None = None, world: int = 1, temperature: float = 1.0
    ):
        super().__init__(range(sum(len(task.rows) for task in tasks)), batch_size=1, drop_last=False, seed=seed)
        self.batch_size = None  # batches differ in size; accelerate asks
        self.tasks, self.max_steps, self.companion, self.world = tasks, max_steps, companion, world
        self.shares = [0.0 if number == companion else task.share ** (1 / temperature) for number, task in enumerate(tasks)]
        self.offsets = np.cumsum([0, *(len(task.rows) for task in tasks)])[:-1].tolist()

    def __len__(self) -> int:
        return self.max_steps * self.world

    def at(self, place: int) -> tuple[Task, int]:
        """The task of a place in a batch, and the row's number there."""
        number = bisect_right(self.offsets, place) - 1
        return self.tasks[number], place - self.offsets[number]

    def __iter__(self) -> Iterator[list[int]]:
        streams = [_batches(task, np.random.default_rng([self.seed, number])) for number, task in enumerate(self.tasks)]
        for number in turns(self.shares, self.max_steps):
            parts = [number] if self.companion is None else [number, self.companion]
            batch = [self.offsets[part] + row for part in parts for row in next(streams[part])]
            for _ in range(self.world):
                yield list(batch)


def turns(shares: list[float], steps: int) -> Iterator[int]:
    """Which task each step trains: always the one that is furthest behind its share."""
    total, done = sum(shares), [0] * len(shares)
    for step in range(1, steps + 1):
        number = max(range(len(shares)), key=lambda k: (shares[k] / total * step - done[k], shares[k]))
        done[number] += 1
        yield number


def _batches(task: Task, random: np.random.Generator) -> Iterator[list[int]]:
    """Endless batches of row numbers of one task."""
    numbers, bounds = task.groups
    rows: list[int] = []
    current: list[int] = []
    previous: list[int] = []
    while True:
        order = random.permutation(len(bounds) - 1)
        late = np.isin(order, previous + current)
        for number in np.concatenate([order[~late], order[late]]).tolist():
            members = numbers[bounds[number] : bounds[number + 1]]
            rows += members[random.permutation(len(members))[: task.group_size]].tolist()
            current.append(number)
            if len(rows) >= task.batch_size:
                yield rows[: task.batch_size]
                rows, previous, current = [], current, []


class TaskCollator:
    """Rows of one task -> padded chunks of distinct texts, and `label`: index tensors into those texts (B anchors, N negatives).

    label holds task (); anchor (B,), positive (B,); negatives (B, N) where there are any; pool (B,) where negatives come from a pool; score
    (B,) under CoSENT; sts_anchor, sts_positive, sts_score (S,) where a batch of STS comes along; restore (T,), which puts the encoded
    texts back into the order that the indices refer to; plain (T,), where there are prompts, equal for texts that differ in these alone.

    A batch with a pool is only named here and made by `complete`, in the training process and when it trains, because the pool moves on
    with every step: so batches may be built ahead, and in worker processes.

    Several processes: each makes the whole label and every `world`-th text, as many as the others; `restore` refers to the encoded texts of
    all processes, one process after the other.

    Args:
        tokenizer: of the model that trains.
        max_length: tokens kept of a text.
        negatives: gives the texts of the negatives in use for pool ids (B,), as B lists; called when a batch is made.
        chunk: texts that are padded together.
        pool_prompts: False adds to each chunk `prompt_length`, the tokens of each text that its vector leaves out.

    Raises:
        UserError: see `check_prompt`.
    """

    valid_label_columns: tuple[str, ...] = ()
    rank, world = 0, 1

    def __init__(
        self,
        tasks: list[Task],
        tokenizer,
        max_length: int,
        negatives: Callable[[torch.Tensor], list[list[str]]] | None = None,
        chunk: int = CHUNK,
        pool_prompts: bool = True,
    ):
        self.tasks, self.tokenizer, self.max_length, self.negatives, self.chunk = tasks, tokenizer, max_length, negatives, chunk
        lengths = prompt_lengths(tasks, tokenizer, max_length)
        self.has_prompts = lengths.keys() != {""}
        self.left_out = None if pool_prompts else lengths

    def __call__(self, items: list[dict[str, int]]) -> dict[str, Any]:
        first = self.tasks[items[0]["task"]].rows[items[0]["row"]]
        return {"items": items} if "pool" in first and self.negatives is not None else self._make(items)

    def complete(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with the negatives that are in use now; a batch that needs none is as it was."""
        return self._make(batch["items"]) if "items" in batch else batch

    def _make(self, items: list[dict[str, int]]) -> dict[str, Any]:
        number = items[0]["task"]
        task = self.tasks[number]
        rows = [task.rows[item["row"]] for item in items if item["task"] == number]
        companions = [self.tasks[item["task"]] for item in items if item["task"] != number][:1]
        texts: dict[tuple[str, str], int] = {}

        def places(prompt: str, values: list[str]) -> torch.Tensor:
            return torch.tensor([texts.setdefault((prompt, value), len(texts)) for value in values], dtype=torch.long)  # also of none

        def anchors(prompt: str, own: list[dict[str, Any]]) -> torch.Tensor:
            return torch.cat([places(row.get("prompt") or prompt, [row["anchor"]]) for row in own])

        query, document = task.prompts
        label = {
            "task": torch.tensor(number),
            "anchor": anchors(query, rows),
            "positive": places(document, [row["positive"] for row in rows]),
        }
        if task.loss == "cosent":
            label["score"] = torch.tensor([row["score"] for row in rows], dtype=torch.float32)
        negatives = [row["negatives"] for row in rows] if "negatives" in rows[0] else None
        if "pool" in rows[0] and self.negatives is not None:
            label["pool"] = torch.tensor([row["pool"] for row in rows])
            negatives = self.negatives(label["pool"])
        if negatives is not None:
            label["negatives"] = torch.stack([places(document, some) for some in negatives])
        for other in companions:
            own = [other.rows[item["row"]] for item in items if item["task"] != number]
            label["sts_anchor"] = anchors(other.prompts[0], own)
            label["sts_positive"] = places(other.prompts[1], [row["positive"] for row in own])
            label["sts_score"] = torch.tensor([row["score"] for row in own], dtype=torch.float32)
        if self.has_prompts:
            plain: dict[str, int] = {}
            label["plain"] = torch.tensor([plain.setdefault(value, len(plain)) for _, value in texts])
        return self._encode(list(texts), label)

    def _encode(self, texts: list[tuple[str, str]], label: dict[str, torch.Tensor]) -> dict[str, Any]:
        ids = self.tokenizer([prompt + text for prompt, text in texts], truncation=True, max_length=self.max_length)["input_ids"]
        order = sorted(range(len(ids)), key=lambda k: len(ids[k]))
        each = -(-len(order) // self.world)
        restore = torch.empty(len(order), dtype=torch.long)
        restore[order] = torch.tensor([i % self.world * each + i // self.world for i in range(len(order))])
        label["restore"] = restore
        # the longest text again until all processes have as many: nothing refers to the copies
        own = (order + order[-1:] * (each * self.world - len(order)))[self.rank :: self.world]
        batch: dict[str, Any] = {"label": label}
        for start in range(0, len(own), self.chunk):
            chunk = {"input_ids": [ids[k] for k in own[start : start + self.chunk]]}
            for name, tensor in self.tokenizer.pad(chunk, return_tensors="pt").items():
                batch[f"chunk{start // self.chunk}_{name}"] = tensor
            if self.left_out is not None:
                lengths = [self.left_out[texts[k][0]] for k in own[start : start + self.chunk]]
                batch[f"chunk{start // self.chunk}_prompt_length"] = torch.tensor(lengths)
        return batch


def prompt_lengths(tasks: Sequence[Task], tokenizer, max_length: int) -> dict[str, int]:
    """Tokens of the prompts of some tasks.

    Raises:
        UserError: see `check_prompt`.
    """
    return {prompt: check_prompt(f"task {task.name}", tokenizer, prompt, max_length) for task in tasks for prompt in task.all_prompts}


def check_prompt(where: str, tokenizer, prompt: str, max_length: int) -> int:
    """Tokens of a prompt, those before it included and a closing one not, as sentence-transformers counts them.

    Raises:
        UserError: they are more than half of `max_length`: the texts behind it would be cut to nothing, and have one vector.
    """
    ids = tokenizer([prompt], truncation=False)["input_ids"][0] if prompt else []
    if 2 * (length := len(ids) - bool(ids and ids[-1] in tokenizer.all_special_ids)) > max_length:
        raise UserError(
            f"{where}: the prompt {prompt[:40]!r} has {length} tokens, more than half of max_length {max_length}, so that texts behind it "
            "are cut: raise max_length, or shorten the prompt"
        )
    return length


def leave_out_prompts(pooling: Pooling, inputs: tuple[dict]) -> tuple[dict]:
    """A hook before pooling: a text's first `prompt_length` (B,) tokens are not pooled. sentence-transformers has one length a batch, ours
    have texts of both sides."""
    features = dict(inputs[0])
    if isinstance(features.get("prompt_length"), torch.Tensor):
        mask, length = features["attention_mask"], features.pop("prompt_length")
        features["attention_mask"] = mask * (mask.cumsum(1) > length[:, None])
    return (features,)
