"""Invariants: whitening is the published formula, and no shift or linear map of all vectors changes what it gives; so a direction that a
language's texts share hides nothing. It is fitted on training texts alone, and never on passages beside their translations."""

import numpy as np
import pytest

from conan_lib.errors import UserError
from conan_lib.evaluation.encoder import Encoder, model_meta
from conan_lib.topics.retrieval.whiten import shared_directions, training_texts, whitened

DIM, TEXTS = 6, [f"text {i}" for i in range(80)]


def encoder(vectors: np.ndarray) -> Encoder:
    """Vectors by the number of the text, as they are."""
    meta = model_meta("made/up", "0", parameters=1, dim=DIM, max_tokens=8, languages=["en"], licence="cc0-1.0", framework=["NumPy"])
    return Encoder(lambda texts, is_query: vectors[[int(text.split()[1]) for text in texts]], meta)


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    return rng.normal(size=(len(TEXTS), DIM)) @ rng.normal(size=(DIM, DIM)) + 3 * rng.normal(size=DIM)


def test_whitening_is_the_formula(vectors):
    mean, values = vectors.mean(axis=0), np.linalg.eigh(np.cov(vectors.T))
    expected = (vectors - mean) @ values.eigenvectors / np.sqrt(values.eigenvalues)
    assert np.allclose(np.cov(expected.T), np.eye(DIM))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    white = whitened(encoder(vectors), TEXTS)
    found = white.vectors(TEXTS)
    assert white.name == "up-whitened" and np.allclose(np.linalg.norm(found, axis=1), 1)
    assert np.allclose(found @ found.T, expected @ expected.T, atol=1e-9)  # the axes' signs are free, cosines are not


def test_no_shift_and_no_linear_map_changes_a_cosine(vectors):
    rng = np.random.default_rng(1)
    moved = vectors @ rng.normal(size=(DIM, DIM)) + rng.normal(size=DIM)
    one, other = (whitened(encoder(v), TEXTS).vectors(TEXTS) for v in (vectors, moved))
    assert np.allclose(one @ one.T, other @ other.T, atol=1e-6)


def test_a_language_direction_no_longer_hides_translations():
    """Two languages say the same in the same way, each on its own side of the space: cosines fail, whitened ones do not."""
    rng = np.random.default_rng(2)
    said = rng.normal(size=(40, 24))
    side = np.zeros((80, 24))
    side[:40, 0], side[40:, 0] = 40, -40
    vectors = np.concatenate([said, said]) + side + 10 * rng.normal(size=24)

    def hits(found):
        return ((found[:40] @ found[40:].T).argmax(axis=1) == np.arange(40)).mean()

    plain = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert hits(plain) < 0.3 and hits(whitened(encoder(vectors), TEXTS).vectors(TEXTS)) > 0.9


def test_shared_directions_of_known_vectors():
    """Means a and -a, and a scatter of variance v within each: the share between is |a|^2 / (|a|^2 + v)."""
    scatter = np.array([[0, 1.0], [0, -1.0]])
    found = shared_directions({"de": scatter + np.array([2, 0]), "en": scatter - np.array([2, 0])})
    assert found == {"mean_cosine": -4, "language_share": 4 / 5}
    assert shared_directions({"de": scatter, "en": scatter}) == {"mean_cosine": 0, "language_share": 0}
    assert shared_directions({"de": scatter}) == {"mean_cosine": None, "language_share": 0}


def test_it_is_fitted_on_single_training_texts(ready, monkeypatch):
    data = ready("evaluate").inputs["corpus"].path
    texts = training_texts(data, 10, 0)
    assert {language: len(own) for language, own in texts.items()} == {"de": 10, "en": 10, "fr": 10, "zh": 10}
    assert texts == training_texts(data, 10, 0) != training_texts(data, 10, 1)
    everything = training_texts(data, 10**6, 0)
    assert [len(own) for own in everything.values()] == [24] * 4  # of 72: neither the parallel ones nor those held out
    monkeypatch.setattr("conan_lib.topics.retrieval.whiten.CHARACTERS", 5)
    assert training_texts(data, 10, 0) == {language: [text[:5] for text in own] for language, own in texts.items()}


def test_too_few_texts_are_one_line(vectors):
    with pytest.raises(UserError, match=r"evaluation\.whitening_texts: 6 training texts are too few to whiten 6 dimensions: raise it"):
        whitened(encoder(vectors), TEXTS[:6])
