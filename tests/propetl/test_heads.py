"""Heads against arithmetic on paper."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from propetl.heads import Head, logits_of

POOLED = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
LINEAR = {"weight": torch.tensor([[1.0, 0.5], [2.0, 1.0], [0.0, -1.0]]), "bias": torch.tensor([0.0, 1.0, 0.5])}
DENSE = {"dense.weight": torch.tensor([[1.0, 1.0], [0.0, 2.0]]), "dense.bias": torch.tensor([1.0, -1.0])}


def test_linear():
    """Row 0: (1 - 1 + 0, 2 - 2 + 1, 2 + 0.5); row 1: (1.5, 3 + 1, -3 + 0.5)."""
    assert logits_of(POOLED, LINEAR, "tanh").tolist() == [[0.0, 1.0, 2.5], [1.5, 4.0, -2.5]]


def test_the_familys_own():
    """Dense of row 0: (1 - 2 + 1, -4 - 1) = (0, -5), of row 1: (3 + 1, 6 - 1) = (4, 5); then ReLU and the linear."""
    found = logits_of(POOLED, LINEAR | DENSE, "relu")
    assert found.tolist() == [[0.0, 1.0, 0.5], [4.0 + 2.5, 8.0 + 5.0 + 1.0, -5.0 + 0.5]]


def test_a_head_for_each_row():
    heads = [LINEAR | DENSE, {name: -2 * tensor for name, tensor in (LINEAR | DENSE).items()}]
    rows = {name: torch.stack([head[name] for head in heads]) for name in heads[0]}
    found = logits_of(POOLED, rows, "tanh")
    for row, head in enumerate(heads):
        torch.testing.assert_close(found[row : row + 1], logits_of(POOLED[row : row + 1], head, "tanh"))


def test_dropout_comes_before_each_projection():
    calls = []

    def drop(value):
        calls.append(value.shape[-1])
        return value * 2

    assert logits_of(POOLED, LINEAR, "tanh", drop).tolist() == logits_of(2 * POOLED, LINEAR, "tanh").tolist()
    logits_of(POOLED, LINEAR | DENSE, "tanh", drop)
    assert calls == [2, 2, 2]


@pytest.mark.parametrize("kind", ["linear", "own"])
def test_tensors_are_the_parameters(kind):
    head = Head(kind, 4, 3)
    assert {id(tensor) for tensor in head.tensors().values()} == {id(parameter) for parameter in head.parameters()}
    assert {name: tuple(tensor.shape) for name, tensor in head.tensors().items()} == {
        "weight": (3, 4),
        "bias": (3,),
    } | ({"dense.weight": (4, 4), "dense.bias": (4,)} if kind == "own" else {})


def test_an_own_head_starts_from_the_pretrained_pooler():
    pooler = {"weight": torch.randn(4, 4), "bias": torch.randn(4)}
    tensors = Head("own", 4, 3, pooler).tensors()
    assert torch.equal(tensors["dense.weight"], pooler["weight"])
    assert torch.equal(tensors["dense.bias"], pooler["bias"])
    assert tensors["dense.weight"] is not pooler["weight"]


# Where transformers keeps each family's classifier: its dense part and its last projection.
CLASSIFIERS = {
    "bert": ("bert.pooler.dense", "classifier"),
    "roberta": ("classifier.dense", "classifier.out_proj"),
    "xlm-roberta": ("classifier.dense", "classifier.out_proj"),
    "electra": ("classifier.dense", "classifier.out_proj"),
    "distilbert": ("pre_classifier", "classifier"),
    "mpnet": ("classifier.dense", "classifier.out_proj"),
}


def test_the_own_head_is_transformers_classifier(backbone, text):
    """``AutoModelForSequenceClassification`` gives the same logits when it has the same weights."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(backbone.model.config).eval()
    body = getattr(model, model.base_model_prefix)
    body.load_state_dict(backbone.model.state_dict(), strict=False)
    dense, out = (model.get_submodule(path) for path in CLASSIFIERS[backbone.family.name])
    head = {"weight": out.weight, "bias": out.bias, "dense.weight": dense.weight, "dense.bias": dense.bias}
    with torch.no_grad():
        expected = model(**text).logits
        pooled = backbone.model(**text).last_hidden_state[:, 0]
        found = logits_of(pooled, head, backbone.family.head_activation)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
