"""Invariants: the prompts saved with a model stand before the texts of their tasks in evaluation, pooled or not as the model says; the
parameters' own come over them."""

import mteb
import numpy as np
import pytest
from mteb.types import PromptType
from sentence_transformers import SentenceTransformer

from conan_lib.evaluation.encoder import own_encoder
from conan_lib.model.backbone import export
from tests.small_pairs import small_encoder

RETRIEVAL = mteb.get_task("NFCorpus").metadata


@pytest.mark.parametrize("pooled", [True, False])
def test_saved_prompts_are_used_in_evaluation(tmp_path, pooled):
    model = small_encoder(tmp_path / "start")
    model.prompts = {"query": "ask: ", "document": "", "STS": "like: "}
    model.set_pooling_include_prompt(pooled)
    export(model, tmp_path / "model")
    saved = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    texts = ["stone", "water and bread"]
    encoder = own_encoder("supervised", tmp_path / "model", "r1", 32, 8, "cpu", [])
    for side, wanted in ((PromptType.query, saved.encode_query(texts)), (PromptType.document, saved.encode_document(texts))):
        np.testing.assert_allclose(encoder.of_task(texts, RETRIEVAL, side), wanted, atol=1e-6)
    other = own_encoder("supervised", tmp_path / "model", "r1", 32, 8, "cpu", [], prompts={"query": "find: "})
    wanted = saved.encode(texts, prompt="find: ")
    np.testing.assert_allclose(other.of_task(texts, RETRIEVAL, PromptType.query), wanted, atol=1e-6)
    assert other.model_prompts == {"query": "find: ", "STS": "like: "}


def test_a_model_without_prompts_has_none(tmp_path):
    export(small_encoder(tmp_path / "start"), tmp_path / "model")
    assert own_encoder("weak", tmp_path / "model", "r1", 32, 8, "cpu", []).model_prompts is None
