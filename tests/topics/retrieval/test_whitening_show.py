"""Pins: a checkpoint's row holds the two files' means and what its vectors share; a run that did not whiten says so."""

import json

import pytest

from conan_lib.findings.blocks import Missing
from conan_lib.findings.run import Run
from conan_lib.topics.retrieval import whitening
from tests.handmade import RECALL, finish


def test_each_checkpoint_has_both_scores(report):
    text, table, differences = whitening.blocks(Run.open("params/tiny.yaml"))
    assert "no verdict here rests on it" in text.text
    row = table.frame.set_index("model").loc["weak"]
    plain = 0.3 + RECALL["weak"] / 2
    assert row["nDCG@10 within a language, as it is"].startswith(f"{plain:.3f} [")
    assert row["nDCG@10 within a language, whitened"].startswith(f"{0.9 * plain:.3f} [")
    before, after = (float(row[f"R@10 across languages, {how}"].split()[0]) for how in ("as it is", "whitened"))
    assert after == pytest.approx(0.9 * before, abs=1e-3)
    assert (row["mean cosine"], row["variance between languages"]) == (0.3, "25.0%")
    assert differences.frame["to"].tolist() == ["supervised-whitened"]


def test_a_run_without_whitening_says_so(fake_run):
    stage = Run.open(finish()).stages["evaluate"]
    manifest = stage.path / "manifest.json"
    said = json.loads(manifest.read_text())
    del said["results"]["whitened"]
    manifest.write_text(json.dumps(said))
    (block,) = whitening.blocks(Run.open("params/tiny.yaml"))
    assert isinstance(block, Missing) and "evaluation.whitening_texts: null" in block.why
