"""Products of a few rows: the other way round gives the same numbers, and only where it was meant to."""

import pytest
import torch
from torch import nn

from models_backend.text.narrow import narrow

from . import tiny

needs_mkl = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="the rule is about MKL's kernels")


@needs_mkl
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 32), (2, 32), (4, 32), (5, 32), (2, 1, 32), (1, 3, 32), (4, 1, 32), (2, 9, 32)])
def test_a_narrow_product_is_the_plain_product(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(32, 48, bias=bias).requires_grad_(False)
    x = torch.randn(shape)
    expected = layer(x)
    narrow(layer)
    assert "forward" in vars(layer)
    found = layer(x)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous()


@needs_mkl
def test_a_whole_model_answers_the_same() -> None:
    made = tiny.model("qwen2")
    ids = [5, 9, 100, 33]
    expected = tiny.generated(made, ids)
    narrow(made)
    assert [one.ids for one in tiny.answer(tiny.engine(made), tiny.ask(tiny.prompt(*ids)))] == [expected]


def test_half_precision_is_left_alone() -> None:
    layer = nn.Linear(8, 8, dtype=torch.bfloat16)
    narrow(layer)
    assert "forward" not in vars(layer)
