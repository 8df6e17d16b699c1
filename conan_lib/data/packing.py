"""Which documents are read, in which order, and how they fill blocks of a fixed length without seeing each other."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from conan_lib.errors import UserError

IGNORE = -100
"""Label of a token that is not predicted."""


def balanced_order(languages: Sequence[str], sizes: Sequence[int], exponent: float, seed: int) -> np.ndarray:
    """A random order of documents whose prefixes hold each language in proportion to (its share of the corpus) ** exponent.

    Sampling without replacement: a document of language l weighs size_l ** (exponent - 1), where size_l is the language's total, and the
    order is a race of exponential clocks with those rates. As languages run out, the rest fills the tail.

    Args:
        languages: of each document.
        sizes: of each document, in characters.
        exponent: 1 keeps the corpus' shares, 0 makes all languages equal.

    Returns:
        Document indices, shape (documents,).
    """
    totals: dict[str, int] = defaultdict(int)
    for language, size in zip(languages, sizes, strict=True):
        totals[language] += size
    weights = np.array([max(totals[language], 1) ** (exponent - 1.0) for language in languages])
    return np.argsort(np.random.default_rng(seed).exponential(size=len(weights)) / weights, kind="stable")


class Blocks(Dataset):
    """Packed documents: N blocks of L tokens, every token in use, no padding.

    Documents follow each other and are cut at block ends; the rest of a cut document opens the next block as a piece of its own. Positions
    restart at 0 with each piece. transformers reads the pieces off the positions, so that a token attends to its own piece alone (on any
    attention backend); without the document mask positions are left out and a token sees all of the block before it. The first token of a
    piece is never predicted, because what comes before it belongs to another document.

    Args:
        documents: token ids of each document.
        length: L, tokens in a block.
        document_mask: whether documents are kept apart.

    Raises:
        UserError: the documents do not fill one block.
    """

    def __init__(self, documents: Sequence[Sequence[int]], length: int, document_mask: bool = True):
        documents = [document for document in documents if len(document)]
        tokens = sum(map(len, documents))
        if tokens < length:
            raise UserError(f"packing: {tokens} tokens do not fill one block of {length}: read more documents or lower max_length")
        starts = np.zeros(tokens, dtype=bool)
        starts[np.cumsum([0, *map(len, documents[:-1])])] = True
        whole = tokens // length * length
        ids = np.concatenate([np.asarray(document, dtype=np.int64) for document in documents])[:whole].reshape(-1, length)
        starts = starts[:whole].reshape(-1, length)
        starts[:, 0] = True
        place = np.arange(length)
        self.input_ids = torch.from_numpy(ids)
        self.labels = torch.from_numpy(np.where(starts, IGNORE, ids))
        self.position_ids = torch.from_numpy(place - np.maximum.accumulate(np.where(starts, place, 0), axis=1)) if document_mask else None

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int | slice) -> dict[str, torch.Tensor]:
        """One block, each tensor (L,); or with a slice a batch, each (B, L)."""
        block = {"input_ids": self.input_ids[index], "labels": self.labels[index]}
        return block if self.position_ids is None else block | {"position_ids": self.position_ids[index]}
