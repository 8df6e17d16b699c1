"""A digest sees what a stage means and not on which machine it ran: rows, columns, keys and shapes, but no floating-point noise."""

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from conan_lib.data.records import write_table
from conan_lib.stages import open_stage
from tests import golden

ROWS = [{"text": "one", "score": 0.123456}, {"text": "two", "score": 0.5}]


@pytest.fixture(params=[True, False], ids=["exact", "trained"])
def exact(request, project, monkeypatch):
    """Whether the stage is one whose output is the same on every machine."""
    monkeypatch.setattr(golden, "EXACT", ("corpus",) if request.param else ())
    return request.param


def made(rows=ROWS, results=None, shape=(2, 3)):
    """The digest of a stage that was committed with a table and weights."""
    stage = open_stage("corpus", "params/small.yaml")
    with stage.work() as work:
        write_table(stage.path / "rows.parquet", pa.Table.from_pylist(rows))
        save_file({"weight": torch.rand(shape)}, stage.path / "model.safetensors")
        work.commit(results or {"loss": 1.0, "steps": 3})
    found = golden.digest(stage)
    (stage.path / "manifest.json").unlink()
    return found


def test_what_differs_between_machines_is_not_seen(exact):
    first = made()
    noise = [row | {"score": row["score"] * 1.0001} for row in ROWS]
    assert made(noise, {"loss": 1.0001, "steps": 3}) == first
    assert (made(ROWS[:1]) == first) != exact, "a trained stage's rows follow from floating-point numbers"


def test_columns_shapes_and_keys_are_seen(exact):
    renamed = [{"content": row["text"], "score": row["score"]} for row in ROWS]
    assert len({made(), made(renamed), made(results={"loss": 1.0}), made(shape=(3, 2))}) == 4


def test_every_word_of_the_data_is_seen(project):
    assert made() != made([ROWS[0] | {"text": "ones"}, ROWS[1]])
