"""Pins: Matryoshka is the weighted sum over re-normalised prefixes, equal to sentence-transformers' MatryoshkaLoss; impossible dims
and weights are refused."""

import pytest
import torch
import torch.nn.functional as F
from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss, MultipleNegativesRankingLoss
from torch import nn

from conan_lib.losses import info_nce, matryoshka, prefix


class Fixed(nn.Module):
    """Stands in for a SentenceTransformer whose features are its unit vectors."""

    def forward(self, features):
        return {"sentence_embedding": F.normalize(features["vectors"], dim=-1)}

    def get_embedding_dimension(self):
        return 16


@pytest.mark.equation("matryoshka")
@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 0.25]])
def test_equals_sentence_transformers(weights):
    vectors = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dims, model = [4, 8, 16], Fixed()
    theirs = MatryoshkaLoss(model, MultipleNegativesRankingLoss(model, scale=20.0), dims, weights)
    wanted = theirs([{"vectors": vectors[0]}, {"vectors": vectors[1]}], None)
    found = matryoshka(lambda cut: info_nce(cut[0], cut[1], temperature=0.05), vectors, dims, weights)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-9)


@pytest.mark.equation("matryoshka")
def test_prefixes_have_unit_length_and_only_they_are_seen():
    seen = []
    vectors = torch.randn(3, 8, requires_grad=True)
    matryoshka(lambda cut: seen.append(cut) or cut.square().sum(), vectors, [2, 5])
    assert [cut.shape[-1] for cut in seen] == [2, 5]
    for cut, dim in zip(seen, (2, 5), strict=True):
        torch.testing.assert_close(cut, vectors[:, :dim] / vectors[:, :dim].norm(dim=1, keepdim=True))


@pytest.mark.parametrize("dims", [[], [0, 4], [4, 9], None, 4, [2.0, 4]])
def test_impossible_dims(dims):
    with pytest.raises(ValueError, match=r"matryoshka dims .* whole numbers from 1 to the vector's 8"):
        matryoshka(lambda cut: cut.sum(), torch.randn(2, 8), dims)


def test_not_as_many_weights_as_dims():
    with pytest.raises(ValueError, match="matryoshka weights: 1 for 2 dims"):
        matryoshka(lambda cut: cut.sum(), torch.randn(2, 8), [4, 8], [1.0])


@pytest.mark.parametrize("dim", [99, 0, -1, 2.0, None])
def test_an_impossible_prefix(dim):
    with pytest.raises(ValueError, match=r"^prefix: dim .* whole number from 1 to the vector's 8"):
        prefix(torch.randn(2, 8), dim)
