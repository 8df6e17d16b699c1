"""The paper's figures are data: they bear out the differences that the claims quote, and a row of another length is one line."""

import pytest

from conan_lib.errors import UserError
from conan_lib.findings import published as module
from conan_lib.findings.published import published


def test_the_papers_tables_bear_out_the_differences_that_we_quote():
    rows = {row[0]: row[1:] for row in published()["ablation"].rows}
    assert rows["SM + CLR"][0] - rows["SM"][0] == pytest.approx(2.72)
    assert [a - b for a, b in zip(rows["SM + DHNM"], rows["DHNM"], strict=True)] == pytest.approx([1.22, 1.28, 0.35])
    assert [a - b for a, b in zip(rows["SM + CLR"], rows["CLR"], strict=True)] == pytest.approx([1.76, 1.20, 0.38])
    assert rows["SM + CLR + DHNM"] == tuple(max(column) for column in zip(*[r for r in rows.values() if None not in r], strict=True))
    mteb = published()["mteb_eng_v2"].rows
    tasks = (8, 8, 3, 2, 10, 9, 1)  # point 10
    sums = {name: sum(n * mean for n, mean in zip(tasks, means, strict=True)) / 41 for name, *means, _ in mteb if None not in means}
    off = {name: round(sums[name], 2) for name, *_, stated in mteb if name in sums and abs(sums[name] - stated) > 0.011}
    assert off == {"Conan-Embedding-v2": 74.31, "Conan-Embedding-v2, zero-shot": 72.2} and len(sums) == 5
    assert mteb[0][-1] == 73.52


def test_a_row_of_another_length_is_named(monkeypatch):
    table = {"title": "t", "place": "p", "columns": ["name", "value"], "rows": [["a", 1], ["b"]]}
    monkeypatch.setattr(module, "_read", lambda: {"tables": {"one": table}})
    module.published.cache_clear()
    with pytest.raises(UserError, match="one: row b has 1 cells, expected 2"):
        published()
    module.published.cache_clear()
