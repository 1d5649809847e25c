"""Straight-through top-k and the alignment of means, against reference values and by their properties."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from ragcompress.nn.alignment import mean_alignment
from ragcompress.nn.topk import differentiable_top_k

GOLDEN = Path(__file__).parents[1] / "parity/goldens/differentiable_topk.safetensors"


def gradient(scores, k, upstream, **options):
    scores = torch.tensor([scores], requires_grad=True)
    differentiable_top_k(scores, k, **options).weights.backward(torch.tensor([upstream]))
    return scores.grad[0]


def test_golden_file():
    golden = load_file(GOLDEN)
    logits = golden["logits"].requires_grad_(True)
    found = differentiable_top_k(logits, 3, temperature=0.5)
    assert torch.equal(found.indices, golden["indices"])
    assert (found.weights - golden["weights"]).abs().max() < 1e-6
    found.weights.backward(golden["upstream_grad"])
    assert (logits.grad - golden["logits_grad"]).abs().max() < 1e-3 * golden["logits_grad"].abs().max()


@pytest.mark.parametrize(("scores", "temperature", "expected"), [
    ([0.30, 0.28, 0.10, -0.20], 0.02, [-9.832361, 9.823321, 0.009041, 0.0]),
    ([0.30, 0.28, 0.10, -0.20], 1.0, [-0.382616, -0.431397, 0.220448, 0.593564]),
    ([0.90, 0.40, 0.39, -0.20], 0.02, [-0.152986, 0.069073, 0.083918, 0.0]),
])  # fmt: skip
def test_golden_values_of_the_specification(scores, temperature, expected):
    found = gradient(scores, 2, [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]], temperature=temperature)
    assert (found - torch.tensor(expected)).abs().max() < 1e-3 * max(map(abs, expected))


def test_the_exact_mask_gives_later_slots_their_own_gradient():
    """With a gap of 0.5 the published mask leaves the second slot's softmax on the first slot's candidate."""
    upstream = [[0.0, 0.0, 0.0, 0.0], [5.0, 6.0, 7.0, 8.0]]
    published = gradient([0.90, 0.40, 0.39, -0.20], 2, upstream)
    exact = gradient([0.90, 0.40, 0.39, -0.20], 2, upstream, exact_mask=True)
    assert exact[0] == 0
    assert exact[1:].abs().max() > 10 * published.abs().max()


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=8, unique=True), st.data())
def test_forward_is_a_hard_selection_best_first(values, data):
    k = data.draw(st.integers(1, len(values)))
    scores = torch.tensor([values], dtype=torch.float32) / 50
    for exact_mask in (False, True):
        found = differentiable_top_k(scores, k, exact_mask=exact_mask)
        assert [values[index] for index in found.indices[0].tolist()] == sorted(values, reverse=True)[:k]
        chosen = found.weights[0] @ torch.arange(len(values), dtype=torch.float32)
        assert torch.allclose(chosen, found.indices[0].float(), atol=1e-4)


@pytest.mark.parametrize("k", [0, 4])
def test_k_out_of_range(k):
    with pytest.raises(ValueError, match=f"k = {k}, but there are 3 candidates"):
        differentiable_top_k(torch.zeros(1, 3), k)


def test_alignment_counts_every_token_but_padding():
    states = torch.tensor([[[1.0], [3.0], [10.0], [99.0]], [[2.0], [4.0], [4.0], [0.0]]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    is_memory = torch.tensor([[0, 0, 1, 0], [0, 0, 1, 1]])
    assert mean_alignment(states, mask, is_memory).item() == ((2 - 10) ** 2 + (3 - 2) ** 2) / 2
