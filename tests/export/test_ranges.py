"""How large activations get."""

import numpy as np
import pytest

from propetl.errors import ConfigurationError
from propetl.export.ranges import Range, activation_ranges, widest
from propetl.export.tensorrt_engines.lowering import backbone_products


@pytest.fixture(scope="module")
def measured(exported):
    """Ranges of the folded graph of `two` on two batches."""
    source = exported.artifact / "folded/two/model.onnx"
    batches = [exported.inputs(4, 9, seed) for seed in (0, 1)]
    return activation_ranges(source, exported.artifact, backbone_products(source), batches)


def test_every_product_of_the_backbone_has_one(measured):
    assert len(measured) == 12  # query, key, value, output and the two of the FFN, in two layers
    assert all(-100 < one.low <= 0 <= one.high < 100 and one.is_usable for one in measured.values())


def test_products_of_one_activation_have_one_range(measured):
    assert len(set(measured.values())) == 8  # query, key and value read the same


def test_the_range_is_the_percentile_of_what_pytorch_computes(measured, exported):
    """Into the first products goes the output of the embeddings."""
    lows, highs = [], []
    for seed in (0, 1):
        import torch

        inputs = {name: torch.from_numpy(ids) for name, ids in exported.inputs(4, 9, seed).items()}
        with torch.no_grad():
            embedded = exported.backbone.model.embeddings(inputs["input_ids"], inputs["token_type_ids"])
        low, high = np.percentile(embedded.numpy(), [0.005, 99.995])
        lows.append(low)
        highs.append(high)
    first = next(iter(measured.values()))
    assert first.low == pytest.approx(min(lows), rel=1e-4) and first.high == pytest.approx(max(highs), rel=1e-4)
    assert first.largest == max(-first.low, first.high)


def test_the_widest_of_several_holds_all():
    one, other = {"a": Range(-1, 2), "b": Range(0, 1)}, {"a": Range(-3, 1)}
    assert widest([one, other]) == {"a": Range(-3, 2), "b": Range(0, 1)}


@pytest.mark.parametrize("unusable", [Range(), Range(0, float("nan")), Range(float("-inf"), 0), Range(1, 2)])
def test_what_no_integers_can_be_laid_over(unusable):
    assert not unusable.is_usable


def test_no_rows(exported):
    source = exported.artifact / "folded/two/model.onnx"
    with pytest.raises(ConfigurationError, match="on the calibration rows: give others"):
        activation_ranges(source, exported.artifact, backbone_products(source), [])
