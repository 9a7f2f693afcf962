"""Sample rows: a few real rows of a task as token ids, from which export makes its golden rows."""

from pathlib import Path

import numpy as np

from propetl.bundle.format import VERSION, check_format
from propetl.bundle.tensors import Arrays, read_tensors, tensor_bytes
from propetl.errors import BundleError

FORMAT = "propetl-samples"

_NEEDED = {"input_ids", "attention_mask"}
_KNOWN = _NEEDED | {"token_type_ids"}


def sample_bytes(task: str, samples: Arrays) -> bytes:
    """The file of ``task``: token ids ``[rows, sequence]`` by model input, as int32.

    Raises:
        BundleError: they are not rows of token ids.
    """
    _check(samples, f"task {task}: sample rows")
    tensors = {name: tensor.astype(np.int32) for name, tensor in samples.items()}
    return tensor_bytes(tensors, {"format": FORMAT, "version": VERSION, "task": task})


def read_samples(path: Path) -> Arrays:
    """Token ids int32 ``[rows, sequence]`` by model input.

    Raises:
        BundleError: the file is damaged, or holds no rows of token ids.
    """
    samples, described = read_tensors(path)
    check_format(described, FORMAT, VERSION, str(path), BundleError)
    _check(samples, str(path))
    return samples


def _check(samples: Arrays, source: str) -> None:
    if not _NEEDED <= samples.keys() <= _KNOWN:
        raise BundleError(f"{source}: expected input_ids and attention_mask, found {sorted(samples)}")
    shape = samples["input_ids"].shape
    for name, tensor in samples.items():
        if not np.issubdtype(tensor.dtype, np.integer) or tensor.shape != shape or len(shape) != 2 or 0 in shape:
            found = f"{tensor.dtype}{list(tensor.shape)}"
            raise BundleError(f"{source}: {name} is {found}, expected token ids [rows, sequence], all alike")
