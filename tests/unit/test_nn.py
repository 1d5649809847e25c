"""Bricks that are only fast paths change nothing but the speed."""

import copy

import pytest
import torch

from ragcompress.backends.recomp_extractive._tiny import tiny_encoder
from ragcompress.nn import linear
from ragcompress.testing import QUERIES


@pytest.fixture
def amd(monkeypatch):
    monkeypatch.setattr(linear, "_is_amd", lambda: True)
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this build of torch has no oneDNN")


def test_the_onednn_path_gives_the_same_vectors(amd):
    encoder = tiny_encoder()
    before = encoder.encode(QUERIES).vectors
    keys = list(encoder.model.state_dict())
    linear.use_onednn(encoder.model)
    assert any(isinstance(module, linear.OneDnnLinear) for module in encoder.model.modules())
    assert (encoder.encode(QUERIES).vectors - before).abs().max() < 1e-5
    assert list(encoder.model.state_dict()) == keys
    copy.deepcopy(encoder.model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_and_other_dtypes_take_the_usual_path(amd, dtype):
    layer = torch.nn.Linear(4, 3).to(dtype)
    linear.use_onednn(layer)
    states = torch.randn(2, 4, dtype=dtype, requires_grad=True)
    layer(states).sum().backward()
    assert states.grad is not None
    with torch.no_grad():
        assert layer(states).dtype == dtype


def test_other_processors_are_left_alone(monkeypatch):
    monkeypatch.setattr(linear, "_is_amd", lambda: False)
    layer = torch.nn.Linear(4, 3)
    linear.use_onednn(layer)
    assert type(layer) is torch.nn.Linear
