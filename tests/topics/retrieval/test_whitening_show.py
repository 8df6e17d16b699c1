"""Pins: a checkpoint's row holds the two files' means and what its vectors share; a run that did not whiten says so."""

import json

import pytest

from conan_lib.findings.blocks import Missing
from conan_lib.findings.run import Run
from conan_lib.topics.retrieval import show as retrieval
from tests.handmade import RECALL, finish


def test_each_checkpoint_has_both_scores(report):
    table, differences = retrieval.show(Run.open("params/tiny.yaml"))["whitening"]
    row = table.frame.set_index("model").loc["weak"]
    plain = 0.3 + RECALL["weak"] / 2
    assert row["nDCG@10 within a language, as it is low"] < row["nDCG@10 within a language, as it is"] == pytest.approx(plain)
    assert row["nDCG@10 within a language, whitened"] == pytest.approx(0.9 * plain)
    assert row["R@10 across languages, whitened"] == pytest.approx(0.9 * row["R@10 across languages, as it is"])
    assert (row["mean cosine"], row["variance between languages"]) == (0.3, 0.25)
    assert differences.frame["to"].tolist() == ["supervised-whitened"]


def test_a_run_without_whitening_says_so(fake_run):
    stage = Run.open(finish()).stages["evaluate"]
    manifest = stage.path / "manifest.json"
    said = json.loads(manifest.read_text())
    del said["results"]["whitened"]
    manifest.write_text(json.dumps(said))
    (block,) = retrieval.show(Run.open("params/tiny.yaml"))["whitening"]
    assert isinstance(block, Missing) and "evaluation.whitening_texts: null" in block.why
