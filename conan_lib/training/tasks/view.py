"""Rows that are made when they are asked for, of rows that may lie on disk."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Row = dict[str, Any]


class View(Sequence):
    """Some rows of a sequence, each made anew as it is read; nothing is held but their places.

    Args:
        rows: what has the rows by number.
        make: (place among `rows`, row there) -> the row.
        places: rising, of those that are seen; None: all.
    """

    def __init__(self, rows: Sequence[Row], make: Callable[[int, Row], Row] = lambda place, row: row, places: Sequence[int] | None = None):
        self._rows, self._make, self._places = rows, make, places

    def __len__(self) -> int:
        return len(self._rows if self._places is None else self._places)

    def __getitem__(self, number: int) -> Row:
        place = range(len(self))[number] if self._places is None else int(self._places[number])
        return self._make(place, self._rows[place])

    def __iter__(self) -> Iterator[Row]:
        return self.select(None)

    def select(self, places: Sequence[int] | None) -> Iterator[Row]:
        """The rows of rising places, in order; None: all."""
        if places is None:
            places = self._places
        elif self._places is not None:
            places = array("q", (self._places[place] for place in places))
        return map(self._make, range(len(self)) if places is None else map(int, places), chosen(self._rows, places))


def chosen(rows: Sequence[Row], places: Sequence[int] | None) -> Iterator[Row]:
    """The rows of rising places, in order; None: all."""
    if places is None:
        return iter(rows)
    return rows.select(places) if hasattr(rows, "select") else map(rows.__getitem__, map(int, places))
