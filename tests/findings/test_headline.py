"""Pins: the headline score is what a run has: verses, else its own cross-lingual sets, else retrieval within a language, under its name."""

import pytest

from conan_lib.findings.scores import headline


def row(task: str, type: str, value: float | None, metric: str, subset: str = "default", model: str = "supervised") -> dict:
    return {"model": model, "task": task, "type": type, "subset": subset, "metric": metric, "value": value, "low": value, "high": value}


VERSES = row("bible-clr", "crosslingual", 0.7, "recall_at_10", "mean")
OWN = row("faq-clr", "crosslingual", 0.5, "recall_at_10", "mean")
WITHIN = [row(name, "retrieval", value, "ndcg_at_10") for name, value in (("faq", 0.4), ("manual", 0.6))]


@pytest.mark.parametrize(
    ("rows", "name", "value"),
    [
        ([OWN, *WITHIN, VERSES], "cross-lingual R@10", 0.7),
        ([*WITHIN, OWN], "cross-lingual R@10", 0.5),
        (WITHIN, "retrieval nDCG@10, mean of 2 tasks", 0.5),
        (WITHIN[:1], "retrieval nDCG@10", 0.4),
        ([row("pairs", "sts", 0.3, "cosine_spearman")], "STS Spearman", 0.3),
    ],
)
def test_it_is_named_after_what_was_measured(rows, name, value):
    found = headline([row("faq", "retrieval", 0.9, "ndcg_at_10", model="weak"), *rows])
    assert (found.name, found.value, found.interval) == (name, pytest.approx(value), pytest.approx((value, value)))


def test_without_a_score_there_is_none():
    assert headline([row("faq", "retrieval", None, "ndcg_at_10"), VERSES | {"model": "weak"}]) is None
