"""Files of tensors are read as the safetensors library reads them, and what it refuses is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, save

from propetl.bundle.format import metadata
from propetl.bundle.tensors import tensor_bytes, tensors_of
from propetl.errors import BundleError

TYPES = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
DESCRIPTION = {"format": "x", "text": "ü \u2028"}
WHOLE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

shapes = st.lists(st.integers(0, 4), min_size=1, max_size=3)
tensors_of_any_kind = st.dictionaries(
    st.text(min_size=1, max_size=9), st.tuples(st.sampled_from(TYPES), shapes), max_size=5
)


def written(header: object, values: bytes = bytes(8)) -> bytes:
    """A file whose header is ``header`` as JSON."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


@settings(deadline=None, max_examples=100)
@given(tensors_of_any_kind)
def test_what_was_written_is_read(kinds):
    kinds.pop("__metadata__", None)
    random = np.random.default_rng(0)
    tensors = {name: np.array(random.normal(0, 9, shape)).astype(dtype) for name, (dtype, shape) in kinds.items()}
    found, described = tensors_of(tensor_bytes(tensors, DESCRIPTION), "here")
    assert described == DESCRIPTION and found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)
        assert found[name].flags.writeable  # as PyTorch wants what it shares


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_a_changed_header_gives_nothing_that_the_library_would_not(data):
    """One byte of the header is exchanged or cut out; most such files are refused, and the others read alike."""
    content = save({"a": np.arange(6, dtype=np.float32), "b": np.arange(5, dtype=np.uint8)}, metadata({"format": "x"}))
    end = 8 + int.from_bytes(content[:8], "little")
    place = data.draw(st.integers(0, end - 1))
    new = data.draw(st.sampled_from([b"", b"0", b"1", b"9", b",", b"-", b" ", b"}", b'"', b"\xff", b"00"]))
    changed = content[:place] + new + content[place + 1 :]
    try:
        found, _ = tensors_of(changed, "here")
    except BundleError:
        return
    expected = load(changed)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor)


@pytest.mark.parametrize(
    "header",
    [
        {"a": WHOLE | {"data_offsets": [4, 8], "shape": [1]}},
        {"a": WHOLE | {"data_offsets": [0, 4], "shape": [1]}},
        {"a": WHOLE, "b": WHOLE},
        {"a": WHOLE, "b": WHOLE | {"data_offsets": [4, 8], "shape": [1]}},
        {"a": WHOLE | {"shape": [3]}},
        {"a": WHOLE | {"shape": [-2]}},
        {"a": WHOLE | {"shape": [2.0]}},
        {"a": WHOLE | {"shape": [2**70]}},
        {"a": WHOLE | {"shape": [2**40, 2**40]}},
        {"a": WHOLE | {"shape": None}},
        {"a": WHOLE | {"data_offsets": [-8, 0]}},
        {"a": WHOLE | {"data_offsets": 8}},
        {"a": WHOLE | {"dtype": "F33"}},
        {"a": WHOLE | {"dtype": ["F32"]}},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": 1},
        {},
        [],
        None,
        {"a": WHOLE, "__metadata__": {"propetl": 1}},
        {"a": WHOLE, "__metadata__": 1},
    ],
)
def test_a_header_that_does_not_fit_is_refused_as_by_the_library(header):
    content = written(header)
    with pytest.raises((SafetensorError, KeyError)):
        load(content)
    with pytest.raises(BundleError, match="here: not a readable safetensors file"):
        tensors_of(content, "here")


def test_a_header_that_says_to_be_longer_than_the_file():
    text = json.dumps({"a": WHOLE | {"shape": [0], "data_offsets": [0, 0]}}).encode()
    for longer in (1, 2**62):
        with pytest.raises(BundleError, match="header is incomplete"):
            tensors_of((len(text) + longer).to_bytes(8, "little") + text, "here")


def test_deep_json_is_refused():
    text = b"[" * 100_000
    with pytest.raises(BundleError, match="not a readable safetensors file"):
        tensors_of(len(text).to_bytes(8, "little") + text, "here")


def test_tensors_in_any_order_with_none_in_between():
    order = {
        "b": {"dtype": "U8", "shape": [4], "data_offsets": [4, 8]},
        "none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [4, 4]},
        "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
    }
    content = written(order, np.float32(2.5).tobytes() + bytes([1, 2, 3, 4]))
    found, described = tensors_of(content, "here")
    assert described == {} and {name: tensor.tolist() for name, tensor in found.items()} == {
        name: tensor.tolist() for name, tensor in load(content).items()
    }
