import numpy as np
import pytest

from propetl.bundle.tensors import tensor_bytes
from propetl.errors import ArtifactError
from propetl.runtime.golden import Golden, golden_bytes, read_golden

INPUTS = ("input_ids", "attention_mask")


@pytest.fixture
def goldens():
    random = np.random.default_rng(0)
    return {
        task: Golden(
            {name: random.integers(0, 9, size=(3, 5)) for name in INPUTS},
            random.normal(size=(3, width)).astype(np.float32),
        )
        for task, width in (("rte", 2), ("stsb", 1))
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "golden.safetensors"


def test_round_trip(goldens, path):
    path.write_bytes(golden_bytes(goldens))
    for task, golden in goldens.items():
        found = read_golden(path, task, INPUTS)
        np.testing.assert_array_equal(found.logits, golden.logits)
        for name in INPUTS:
            np.testing.assert_array_equal(found.feeds[name], golden.feeds[name])
            assert found.feeds[name].dtype == np.int64


def test_the_same_rows_give_the_same_bytes(goldens):
    assert golden_bytes(goldens) == golden_bytes(dict(reversed(goldens.items())))


def test_rows_that_are_not_there(goldens, path):
    path.write_bytes(golden_bytes(goldens))
    with pytest.raises(ArtifactError, match="has no tensor 'cola/input_ids'"):
        read_golden(path, "cola", INPUTS)
    with pytest.raises(ArtifactError, match="has no tensor 'rte/token_type_ids'"):
        read_golden(path, "rte", (*INPUTS, "token_type_ids"))


@pytest.mark.parametrize(
    "change",
    [
        {"rte/logits": np.zeros(3, np.float32)},
        {"rte/logits": np.zeros((2, 2), np.float32)},
        {"rte/logits": np.zeros((0, 2), np.float32)},
        {"rte/input_ids": np.zeros((3, 6), np.int64)},
    ],
)
def test_tensors_that_do_not_fit_together(goldens, path, change):
    tensors = {f"rte/{name}": tensor for name, tensor in goldens["rte"].feeds.items()}
    tensors |= {"rte/logits": goldens["rte"].logits} | change
    path.write_bytes(tensor_bytes(tensors, {"format": "propetl-golden", "version": 1}))
    with pytest.raises(ArtifactError, match="do not fit together"):
        read_golden(path, "rte", INPUTS)


def test_damaged_or_foreign_files(goldens, path):
    path.write_bytes(golden_bytes(goldens)[:-3])
    with pytest.raises(ArtifactError, match="not a readable safetensors file"):
        read_golden(path, "rte", INPUTS)
    path.write_bytes(tensor_bytes({}, {"format": "propetl-samples", "version": 1}))
    with pytest.raises(ArtifactError, match="expected format 'propetl-golden'"):
        read_golden(path, "rte", INPUTS)
