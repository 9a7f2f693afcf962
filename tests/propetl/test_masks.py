"""The top-k mask and its straight-through gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from propetl.bits import unpack
from propetl.masks import (
    StraightThroughTopK,
    combined,
    initial_scores,
    kept_count,
    mask_of_scores,
    packed_mask_of_scores,
    top_k_mask,
)

sparsities = st.floats(0.001, 1.0)
# Few distinct values, so that ties are the rule.
tied_rows = st.integers(1, 50).flatmap(
    lambda n: arrays(np.float32, (2, n), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0]))
)
any_rows = st.integers(1, 50).flatmap(
    lambda n: arrays(np.float32, (2, n), elements=st.floats(0, 2.0**100, width=32, allow_subnormal=False))
)


def sorted_oracle(row, kept):
    """By a full sort: largest first, and of equal values the lowest index first."""
    order = np.lexsort((np.arange(len(row)), -row))
    mask = np.zeros(len(row), dtype=bool)
    mask[order[:kept]] = True
    return mask


def reference_mask(scores, sparsity):
    """The selection as the reference implementation writes it: sort, then cut at ``int((1 - k) * n)``."""
    flat = scores.abs().flatten()
    _, order = flat.sort()
    cut = int((1 - sparsity) * flat.numel())
    mask = torch.zeros_like(flat)
    mask[order[cut:]] = 1
    return mask.view_as(scores)


@given(st.integers(1, 10_000), sparsities)
def test_kept_count_is_the_references(count, sparsity):
    assert kept_count(count, sparsity) == count - int((1 - sparsity) * count)
    assert 1 <= kept_count(count, sparsity) <= count


@pytest.mark.parametrize(
    ("count", "sparsity", "kept"), [(10, 0.5, 5), (11, 0.5, 6), (10, 0.1, 1), (7, 1.0, 7), (3, 0.3, 1)]
)
def test_kept_count_of_known_cases(count, sparsity, kept):
    assert kept_count(count, sparsity) == kept


@given(st.one_of(tied_rows, any_rows), st.data())
def test_a_selection_marks_what_a_sort_would(rows, data):
    kept = data.draw(st.integers(0, rows.shape[1]))
    found = top_k_mask(torch.from_numpy(rows), kept).numpy()
    assert found.dtype == bool
    for row, mask in zip(rows, found, strict=True):
        assert mask.tolist() == sorted_oracle(row, kept).tolist()


@given(st.one_of(tied_rows, any_rows), sparsities)
def test_the_count_is_exact_whatever_the_ties(rows, sparsity):
    mask = mask_of_scores(torch.from_numpy(rows), sparsity)
    assert mask.sum(dim=1).tolist() == [kept_count(rows.shape[1], sparsity)] * 2


def test_ties_go_to_the_lowest_index():
    assert top_k_mask(torch.tensor([1.0, 2.0, 1.0, 1.0]), 3).tolist() == [True, True, True, False]
    assert top_k_mask(torch.zeros(5), 2).tolist() == [True, True, False, False, False]


def test_the_sign_of_a_score_does_not_matter():
    mask = mask_of_scores(torch.tensor([[-3.0, 1.0, -2.0, 0.5]]), 0.5)
    assert mask.tolist() == [[1.0, 0.0, 1.0, 0.0]]


def test_gradient_by_hand():
    """A 2 x 3 weight W under a mask M of half of it: y = (W * M) x and L = y_0 + 2 y_1.

    |s| = 0.5 0.2 0.1 / 0.9 0.3 0.3, so M keeps 0.9, 0.5 and, of the two 0.3, the first:
        M = 1 0 0 / 1 1 0
    With g = (1, 2) and x = (1, -1, 2): dL/dM_ij = g_i W_ij x_j
        = 1*1*1  1*2*-1  1*3*2  /  2*4*1  2*5*-1  2*6*2  =  1 -2 6 / 8 -10 24
    Straight through to |s|, so times sign(s) = + - + / - + -:
        dL/ds = 1 2 6 / -8 -10 -24
    and dL/dW_ij = g_i M_ij x_j = 1 0 0 / 2 -2 0.
    """
    scores = torch.tensor([[[0.5, -0.2, 0.1], [-0.9, 0.3, -0.3]]], requires_grad=True)
    weight = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    mask = mask_of_scores(scores, 0.5)
    y = (weight * mask[0]) @ torch.tensor([1.0, -1.0, 2.0])
    (y[0] + 2 * y[1]).backward()
    assert mask.tolist() == [[[1, 0, 0], [1, 1, 0]]]
    assert scores.grad is not None and scores.grad.tolist() == [[[1, 2, 6], [-8, -10, -24]]]
    assert weight.grad is not None and weight.grad.tolist() == [[1, 0, 0], [2, -2, 0]]


RULES = {"or": np.logical_or.reduce, "and": np.logical_and.reduce, "add": np.add.reduce}


@given(st.integers(1, 3).flatmap(lambda count: arrays(np.float32, (count, 6), elements=st.sampled_from([0.0, 1.0]))))
def test_combined_masks_are_what_their_rule_says(masks):
    for rule, expected in RULES.items():
        found = combined(rule, [torch.from_numpy(mask) for mask in masks])
        assert found.tolist() == expected(masks, axis=0).astype(np.float32).tolist()


def test_a_mask_for_all_slots_meets_every_slot():
    layers, task = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    assert combined("or", [layers, task]).tolist() == [[1, 1, 0], [1, 1, 1]]
    assert combined("and", [layers, task]).tolist() == [[1, 0, 0], [0, 0, 0]]
    assert combined("add", [layers, task]).tolist() == [[2, 1, 0], [1, 1, 1]]


BY_HAND = {
    "or": ([[0, 1, 1, 1], [0, 1, 1, 1]], [[5, 0, 0, 0], [-4, 0, 0, 0]], [[9, 0, 0, 0]], [[-9, 0, 0, 20]]),
    "and": ([[0, 0, 1, 0], [0, 0, 0, 0]], [[0, 0, 15, 0], [0, 0, 2, 0]], [[0, 0, 15, 1]], [[0, 13, -15, 0]]),
    "add": ([[0, 2, 3, 1], [0, 2, 2, 2]], [[5, -10, 15, -20], [-4, 3, 2, -1]], [[9, -13, 17, 21]], [[-9, 13, -17, 21]]),
}


@pytest.mark.parametrize("rule", BY_HAND)
def test_gradient_of_a_combination_by_hand(rule):
    """Masks over four weights at two slots; upstream is G = 5 10 15 20 / 4 3 2 1.

    layer     l = 0 1 1 0 / 0 1 0 1, signs + - + - / - + + -
    language  g = 0 1 1 0,           signs + - + +
    task      t = 0 0 1 1,           signs - + - +
    or: m = 1 - (1-l)(1-g)(1-t), so
        dm/dl = (1-g)(1-t) = 1 0 0 0,                 times G and sign: 5 0 0 0 / -4 0 0 0
        dm/dg = (1-l)(1-t) = 1 0 0 0 / 1 0 0 0,       times G, summed over slots: 9 0 0 0
        dm/dt = (1-l)(1-g) = 1 0 0 1 / 1 0 0 0,       9 0 0 20, times sign: -9 0 0 20
    and: m = l g t, so
        dm/dl = g t = 0 0 1 0,                        0 0 15 0 / 0 0 2 0
        dm/dg = l t = 0 0 1 0 / 0 0 0 1,              0 0 15 1
        dm/dt = l g = 0 1 1 0 / 0 1 0 0,              0 13 15 0, times sign: 0 13 -15 0
    add: every factor is 1.
    """
    layer = torch.tensor([[0.1, -0.9, 0.8, -0.2], [-0.2, 0.9, 0.1, -0.7]], requires_grad=True)
    language = torch.tensor([[0.3, -0.8, 0.9, 0.1]], requires_grad=True)
    task = torch.tensor([[-0.2, 0.1, -0.7, 0.6]], requires_grad=True)
    mask = combined(rule, [mask_of_scores(scores, 0.5) for scores in (layer, language, task)])
    mask.backward(torch.tensor([[5.0, 10.0, 15.0, 20.0], [4.0, 3.0, 2.0, 1.0]]))
    gradients = [scores.grad for scores in (layer, language, task)]
    assert (mask.tolist(), *(each.tolist() for each in gradients if each is not None)) == BY_HAND[rule]


@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.5, 0.9, 1.0])
def test_forward_and_backward_as_in_the_reference_implementation(sparsity):
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(1, 6, 7, generator=generator, requires_grad=True)
    upstream = torch.randn(1, 6, 7, generator=generator)
    mask = mask_of_scores(scores, sparsity)
    assert torch.equal(mask[0], reference_mask(scores.detach()[0], sparsity))
    (gradient,) = torch.autograd.grad(mask, scores, upstream)
    assert torch.equal(gradient, upstream * scores.detach().sign())


def test_scores_that_are_masked_out_learn_too():
    scores = torch.tensor([[3.0, 1.0]], requires_grad=True)
    mask_of_scores(scores, 0.5).sum().backward()
    assert scores.grad is not None and scores.grad.tolist() == [[1.0, 1.0]]


def test_slots_are_masked_each_by_itself():
    scores = torch.tensor([[[10.0, 9.0]], [[0.1, 0.2]]])  # two slots of shape [1, 2]
    assert mask_of_scores(scores, 0.5).tolist() == [[[1.0, 0.0]], [[0.0, 1.0]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_mask_has_the_type_of_the_scores(dtype):
    mask = StraightThroughTopK.apply(torch.randn(2, 9).to(dtype), 4)
    assert mask.dtype == dtype and mask.sum(dim=1).tolist() == [4, 4]


@given(st.one_of(tied_rows, any_rows), sparsities)
def test_bits_hold_the_mask_that_trained(rows, sparsity):
    scores = torch.from_numpy(rows)
    packed = packed_mask_of_scores(scores, sparsity)
    assert np.array_equal(unpack(packed, rows.shape[1]), mask_of_scores(scores, sparsity).numpy().astype(bool))


def test_fresh_scores_are_kaiming_uniform_with_a_of_root_five():
    scores = initial_scores(3, (40, 100))
    torch.manual_seed(0)
    reference = torch.nn.init.kaiming_uniform_(torch.empty(120, 100), a=5**0.5)
    assert scores.shape == (3, 40, 100)
    assert scores.abs().max().item() <= 0.1 and scores.abs().max().item() == pytest.approx(0.1, abs=1e-3)
    assert scores.std().item() == pytest.approx(reference.std().item(), rel=0.05)
