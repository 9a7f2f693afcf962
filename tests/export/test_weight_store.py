"""The one file of weights."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.weight_store import WeightStore


@pytest.fixture
def store(tmp_path):
    with WeightStore(tmp_path / "backbone.data") as store:
        yield store


def test_tensors_start_on_pages_and_are_read_back(store):
    arrays = [np.arange(count, dtype=np.float32) for count in (5, 2000, 1)]
    added = [store.add(ir.tensor(array), f"tensor {index}") for index, array in enumerate(arrays)]
    assert [tensor.offset for tensor in added] == [0, 4096, 4096 * 3]
    assert [tensor.length for tensor in added] == [20, 8000, 4]
    for tensor, array in zip(added, arrays, strict=True):
        assert np.array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.uint8, np.bool_, ml_dtypes.bfloat16])
def test_types(store, dtype):
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    tensor = store.add(ir.tensor(array), "tensor")
    assert np.array_equal(tensor.numpy(), array) and tensor.numpy().dtype == array.dtype


def test_the_same_bytes_are_written_once(store):
    array = np.arange(100, dtype=np.float32)
    first, again = store.add(ir.tensor(array), "first"), store.add(ir.tensor(array.copy()), "again")
    assert (first.offset, first.length) == (again.offset, again.length) and again.name == "again"
    assert store.path.stat().st_size == 400


def test_of_another_shape_they_are_the_same_bytes(store):
    array = np.arange(100, dtype=np.float32)
    turned = store.add(ir.tensor(array.reshape(10, 10)), "square")
    assert store.add(ir.tensor(array), "line").offset == turned.offset
    assert np.array_equal(turned.numpy(), array.reshape(10, 10))


def test_of_another_type_they_are_not(store):
    first = store.add(ir.tensor(np.ones(4, np.float32)), "float")
    assert store.add(ir.tensor(np.ones(4, np.float32).view(np.int32)), "integer").offset != first.offset


def test_arrays_of_any_layout(store):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert np.array_equal(store.add(ir.tensor(array), "turned").numpy(), array)


def test_a_tensor_without_elements(store):
    tensor = store.add(ir.tensor(np.zeros((0, 3), np.float32)), "empty")
    assert tensor.length == 0 and list(tensor.shape) == [0, 3]


def test_the_reference_names_the_file_and_no_folder(store):
    tensor = store.add(ir.tensor(np.ones(4, np.float32)), "tensor")
    assert tensor.location == "backbone.data"


def test_it_is_closed_when_the_block_ends(tmp_path):
    with pytest.raises(RuntimeError, match="inside"), WeightStore(tmp_path / "file") as store:
        raise RuntimeError("inside")
    with pytest.raises(ValueError, match="closed"):
        store.add(ir.tensor(np.ones(4, np.float32)), "late")
