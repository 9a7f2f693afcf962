"""Shapes and GPUs as the command line takes them."""

import pytest

from propetl.errors import ConfigurationError
from propetl.export.tensorrt_engines.options import (
    ShapeRange,
    TensorRTOptions,
    default_shapes,
    parse_compute_capabilities,
    parse_shapes,
)


def test_three_shapes():
    assert parse_shapes("1x1/8x64/32x128") == ShapeRange((1, 8, 32), (1, 64, 128))
    assert str(parse_shapes("1x1/8x64/32x128")) == "1x1/8x64/32x128"


def test_one_shape_is_all_three():
    assert parse_shapes("4x64") == ShapeRange((4, 4, 4), (64, 64, 64))


@pytest.mark.parametrize(
    "text", ["", "8", "8x", "1x1/2x2", "1x1/2x2/3x3/4x4", "1x1/8x64/-1x128", "axb", "1x1 /2x2/3x3"]
)
def test_other_words_are_refused(text):
    with pytest.raises(ConfigurationError, match=r"--profile is MIN/OPT/MAX"):
        parse_shapes(text)


@pytest.mark.parametrize("text", ["8x1/4x64/32x128", "1x8/4x4/32x128", "0x1/1x1/1x1", "1x1/8x64/4x128"])
def test_sizes_rise(text):
    with pytest.raises(ConfigurationError, match="rise from MIN over OPT to MAX"):
        parse_shapes(text)


def test_the_default_covers_all_that_a_tokenizer_gives():
    (shape,) = default_shapes(384)
    assert shape.sequence == (1, 128, 384) and shape.batch == (1, 1, 32)
    assert default_shapes(16)[0].sequence == (1, 16, 16)


def test_compute_capabilities():
    assert parse_compute_capabilities("86,89,120") == (86, 89, 120)
    assert parse_compute_capabilities("8.6, sm89,86") == (86, 89)
    for text in ("", "ampere", "86,,89", "86;89"):
        with pytest.raises(ConfigurationError, match="--sm is a list"):
            parse_compute_capabilities(text)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--target is among", {"targets": ()}),
        ("--target is among", {"targets": ("tensorrt-llm",)}),
        ("--precision is among", {"precisions": ("fp8",)}),
        ("--optimization-level is 0 to 5", {"optimization_level": 6}),
        ("--workspace is in MiB", {"workspace_mib": 0}),
        ("--refit and --strip-weights do not go together", {"refit": True, "strip_weights": True}),
        ("files of weights hold no bfloat16", {"refit": True, "precisions": ("fp16", "bf16")}),
        ("--calibration is for --precision int8", {"calibration": "glue"}),
    ],
)
def test_options_out_of_range(words, options):
    with pytest.raises(ConfigurationError, match=words):
        TensorRTOptions(**{"targets": ("tensorrt-rtx",)} | options)
