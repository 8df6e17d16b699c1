"""What a contrastive task is."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from conan_lib.errors import UserError
from conan_lib.training.tasks.view import Row, View


@dataclass(frozen=True)
class TaskSpec:
    """One task: where its rows come from, how they make a batch, which loss and negatives they have, and what evaluates them.

    A row has anchor and positive (texts); as the task needs them score (a number), negatives (texts of its own), id, positive_id and lang.

    Attributes:
        table: the training set that its rows are records of.
        evaluation: mteb's type of the tasks that evaluate it; its prompts are saved for this type.
        share: default share of the steps, `supervised.mix`; 0: it trains only where it is named there.
        batch_size: default anchors in a batch, `supervised.task_batch_size`.
        loss: InfoNCE, or CoSENT over pairs with a score.
        negatives: pool: hard negatives are mined, and a row's own stand before them in the pool; given: a row's own alone, equally many in
            all rows; none: those of the batch, which count under InfoNCE whatever else there is.
        pool_by: of a task with pools: `anchor`, each row has a pool of its own, which is searched with its anchor; `passage`, the rows of
            one passage share a pool, which is searched with the passage, and `clr_queries` of them come together in a batch.
        owns: which records of the table are this task's; None: all.
        row: the row of a record, where the record's fields have other names.
    """

    name: str
    table: str
    evaluation: str
    share: float = 0.0
    batch_size: int = 4
    loss: Literal["infonce", "cosent"] = "infonce"
    negatives: Literal["pool", "given", "none"] = "none"
    pool_by: Literal["anchor", "passage"] = "anchor"
    owns: Callable[[Row], bool] | None = None
    row: Callable[[Row], Row] = lambda record: record

    def rows(self, records: Sequence[Row]) -> Sequence[Row]:
        """The rows of this task among the records of its table, made when they are asked for."""
        own = None if self.owns is None else array("q", (place for place, record in enumerate(records) if self.owns(record)))
        return View(records, lambda _, record: self.row(record), own)

    def checked(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows without what is None, those without an id numbered, and a passage without one named by its text. All are looked at now,
        and each is made when it is asked for.

        Raises:
            UserError: a row lacks a field; the line names task, row (from 0) and field.
        """
        needed = {"anchor": str, "positive": str} | ({"score": (int, float)} if self.loss == "cosent" else {})
        needed |= {"negatives": (list, tuple)} if self.negatives == "given" else {}
        for number, row in enumerate(rows):
            for field, kind in needed.items():
                if not isinstance(row.get(field), kind):
                    mend = "a number" if field == "score" else "a list of texts" if field == "negatives" else "a text"
                    raise UserError(f"task {self.name}: row {number}: {field}: {row.get(field)!r} must be {mend}")
        return View(rows, self._whole)

    def _whole(self, number: int, row: Row) -> Row:
        given = {field: value for field, value in row.items() if value is not None}
        return {"id": f"{self.name}-{number}", "positive_id": row["positive"], **given}

    def pool_id(self, row: Row) -> str:
        """The pool of a row: its own, or its passage's, because a translated query inherits the hard negatives of its original."""
        return row["positive_id"] if self.pool_by == "passage" else row["id"]

    def query(self, row: Row) -> str:
        """The text that a row's pool is searched with."""
        return row["positive"] if self.pool_by == "passage" else row["anchor"]
