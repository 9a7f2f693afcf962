"""How large activations get."""

import numpy as np
import pytest

from propetl.errors import ConfigurationError
from propetl.export.ranges import activation_ranges
from propetl.export.tensorrt_engines.lowering import backbone_products


@pytest.fixture(scope="module")
def measured(exported):
    """Ranges of the folded graph of `two` on two batches."""
    source = exported.artifact / "folded/two/model.onnx"
    batches = [exported.inputs(4, 9, seed) for seed in (0, 1)]
    return activation_ranges(source, exported.artifact, backbone_products(source), batches)


def test_every_product_of_the_backbone_has_one(measured):
    assert len(measured) == 12  # query, key, value, output and the two of the FFN, in two layers
    assert all(0 < largest < 100 for largest in measured.values())


def test_products_of_one_activation_have_one_range(measured):
    assert len(set(measured.values())) == 8  # query, key and value read the same


def test_the_range_is_the_percentile_of_what_pytorch_computes(measured, exported):
    """Into the first products goes the output of the embeddings."""
    largest = []
    for seed in (0, 1):
        import torch

        inputs = {name: torch.from_numpy(ids) for name, ids in exported.inputs(4, 9, seed).items()}
        with torch.no_grad():
            embedded = exported.backbone.model.embeddings(inputs["input_ids"], inputs["token_type_ids"])
        largest.append(np.percentile(np.abs(embedded.numpy()), 99.99))
    assert next(iter(measured.values())) == pytest.approx(max(largest), rel=1e-4)


def test_no_rows(exported):
    source = exported.artifact / "folded/two/model.onnx"
    with pytest.raises(ConfigurationError, match="on the calibration rows: give others"):
        activation_ranges(source, exported.artifact, backbone_products(source), [])
