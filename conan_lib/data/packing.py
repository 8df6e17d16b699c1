"""Which documents are read, in which order, and how they fill blocks of a fixed length without seeing each other."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from conan_lib.data.tokens import Tokens
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
    names, own = np.unique(np.asarray(languages), return_inverse=True)
    totals = np.zeros(len(names), np.int64)
    np.add.at(totals, own, np.asarray(sizes, np.int64))
    weights = np.array([max(int(total), 1) ** (exponent - 1.0) for total in totals])[own]
    return np.argsort(np.random.default_rng(seed).exponential(size=len(weights)) / weights, kind="stable")


class Blocks(Dataset):
    """Packed documents: N blocks of L tokens, every token in use, no padding.

    Documents follow each other and are cut at block ends; the rest of a cut document opens the next block as a piece of its own. Positions
    restart at 0 with each piece. transformers reads the pieces off the positions, so that a token attends to its own piece alone (on any
    attention backend); without the document mask positions are left out and a token sees all of the block before it. The first token of a
    piece is never predicted, because what comes before it belongs to another document.

    Blocks are cut when they are asked for, so documents may be mapped from disk (data/tokens.py).

    Args:
        documents: token ids of each document.
        length: L, tokens in a block.
        document_mask: whether documents are kept apart.
        order: which documents are packed, and in which order; None: all, as they come.
        names: of each document, its number for `records`.

    Raises:
        UserError: the documents do not fill one block.
    """

    def __init__(
        self,
        documents: Sequence[Sequence[int]],
        length: int,
        document_mask: bool = True,
        order: Sequence[int] | None = None,
        names: Sequence[int] = (),
    ):
        self.documents, self.length, self.document_mask, self.names = documents, length, document_mask, names
        sizes = documents.lengths if isinstance(documents, Tokens) else np.array([len(document) for document in documents], np.int64)
        order = np.arange(len(sizes)) if order is None else np.asarray(order)
        self._order = order[sizes[order] > 0]
        self._ends = np.cumsum(sizes[self._order], dtype=np.int64)
        tokens = int(self._ends[-1]) if len(self._ends) else 0
        if tokens < length:
            raise UserError(f"packing: {tokens} tokens do not fill one block of {length}: read more documents or lower max_length")
        self._count = tokens // length

    def records(self, block: int) -> list[int]:
        """The numbers of the documents in a block."""
        return [self.names[self._order[place]] for place in self._places(block)]

    def _places(self, block: int) -> range:
        first, last = np.searchsorted(self._ends, [block * self.length, (block + 1) * self.length - 1], "right")
        return range(first, last + 1)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int | slice) -> dict[str, torch.Tensor]:
        """One block, each tensor (L,); or with a slice a batch, each (B, L)."""
        if isinstance(index, slice):
            blocks = [self[number] for number in range(*index.indices(len(self)))]
            return {name: torch.stack([block[name] for block in blocks]) for name in blocks[0]}
        first, last = index * self.length, (index + 1) * self.length
        pieces = []
        for place in self._places(index):
            document, end = self.documents[self._order[place]], self._ends[place]
            begin = end - len(document)
            pieces.append(np.asarray(document[max(0, first - begin) : last - begin], np.int64))
        ids, places = np.concatenate(pieces), np.concatenate([np.arange(len(piece)) for piece in pieces])
        block = {"input_ids": ids, "labels": np.where(places == 0, IGNORE, ids)} | ({"position_ids": places} if self.document_mask else {})
        return {name: torch.from_numpy(array) for name, array in block.items()}
