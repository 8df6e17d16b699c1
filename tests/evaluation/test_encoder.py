"""Invariants: the prompts saved with a model stand before the texts of their tasks in evaluation, pooled or not as the model says; the
parameters' own come over them."""

import mteb
import numpy as np
import pytest
import torch
from mteb.types import PromptType
from sentence_transformers import SentenceTransformer
from tiny_starts import save_start
from transformers import AutoModel, AutoTokenizer

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


def test_a_language_model_is_pooled_as_the_embedder_will_be_and_keeps_its_starts_licence(tmp_path):
    """A checkpoint from before stage 3 does not say how it is pooled; weights that others made are not ours to license."""
    folder = save_start("qwen3", tmp_path / "start")
    start = {"start": "somebody's model", "licence": "MIT"}
    encoder = own_encoder("start", folder, "r1", 32, 8, "cpu", [], pooling="lasttoken", start=start)
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        states = model(**tokenizer(["stone and water"], return_tensors="pt")).last_hidden_state[0]
    np.testing.assert_allclose(encoder.vectors(["stone and water"])[0], states[-1] / states[-1].norm(), atol=1e-5)
    meta = encoder.mteb_model_meta
    assert meta.license == "mit" and "somebody's model" in meta.public_training_data
    other = own_encoder("start", folder, "r1", 32, 8, "cpu", [], start=start | {"licence": "terms of its own: TERMS.html in a-package"})
    assert other.mteb_model_meta.license is None
