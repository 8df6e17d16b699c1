"""FlexAttention under the soft mask equals a float64 double loop, takes a new alpha without compiling again, and says what it has not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.utils import counters

from benchmarks.flex import flex_attention_under_mask
from conan_lib.attention import SoftMask, reference_attention
from conan_lib.errors import UserError
from tests.soft_mask_oracle import READINGS, batches, loop_attention, relative


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    segments=batches(),
    alpha=st.sampled_from([0.0, 0.3, 1.0]),
    reading=st.sampled_from(READINGS),
    ratio=st.sampled_from(["l/i", "i/l", "uniform"]),
)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_of_the_same_opinion(segments, alpha, reading, ratio):
    generator = torch.Generator().manual_seed(0)
    batch, length = segments.shape
    q, k, v = (torch.randn(batch, n, length, 4, generator=generator) for n in (4, 2, 2))
    found = flex_attention_under_mask(q, k, v, SoftMask(segments, False, alpha, reading, ratio), compiled=False)
    wanted = loop_attention(q.double(), k.double(), v.double(), alpha, segments, reading, ratio)
    assert relative(found * (segments > 0)[:, None, :, None], wanted) < 1e-5


@pytest.mark.slow
def test_flex_attention_compiled_takes_a_new_alpha_without_compiling_again():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, n, 128, 16) for n in (4, 2, 2))
    numbers = torch.ones(2, 128, dtype=torch.long)
    numbers[0, 100:] = 0
    torch._dynamo.reset()
    compiled = []
    for alpha in (0.3, 0.1, 0.7):
        found = flex_attention_under_mask(q, k, v, SoftMask(numbers, False, alpha))
        wanted = reference_attention(q, k, v, alpha, numbers)
        assert relative(found[:, :, :100], wanted[:, :, :100].double()) < 1e-5
        compiled.append(counters["stats"]["unique_graphs"])
    assert compiled[0] == compiled[-1]


def test_no_gradients_on_the_cpu():
    q, k, v = (torch.randn(1, 2, 6, 8, requires_grad=True) for _ in range(3))
    with pytest.raises(UserError, match="no backward pass on the CPU"):
        flex_attention_under_mask(q, k, v, SoftMask(torch.ones(1, 6, dtype=torch.long), True, 0.3))
