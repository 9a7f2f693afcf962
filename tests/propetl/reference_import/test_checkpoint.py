"""Reading files of tensors without running what they hold."""

import os
import pickle

import pytest
import torch

from propetl.errors import BundleError
from propetl.reference_import.checkpoint import Checkpoint, read_checkpoint


class Bomb:
    """Leaves a file where it was unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_torch(tmp_path, zipped):
    torch.save({"a": torch.ones(2)}, tmp_path / "file.bin", _use_new_zipfile_serialization=zipped)
    assert read_checkpoint(tmp_path / "file.bin").take("a").tolist() == [1, 1]


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_never_run(tmp_path, zipped):
    torch.save({"a": Bomb(tmp_path / "boom")}, tmp_path / "file.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BundleError, match="never unpickled") as caught:
        read_checkpoint(tmp_path / "file.bin")
    assert not (tmp_path / "boom").exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nothing", pickle.dumps(3), b"PK\x03\x04 cut off"])
def test_damaged_files(tmp_path, content):
    (tmp_path / "file.bin").write_bytes(content)
    with pytest.raises(BundleError, match=r"file\.bin"):
        read_checkpoint(tmp_path / "file.bin")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BundleError, match="no such file"):
        read_checkpoint(tmp_path / "file.bin")


@pytest.mark.parametrize("value", [[torch.ones(1)], {"a": 3}, {3: torch.ones(1)}])
def test_what_is_no_state_dict(tmp_path, value):
    torch.save(value, tmp_path / "file.bin")
    with pytest.raises(BundleError, match="no state dict"):
        read_checkpoint(tmp_path / "file.bin")


def test_it_remembers_what_was_taken(tmp_path):
    checkpoint = Checkpoint({"a": torch.ones(2), "b": torch.ones(2), "c": torch.zeros(2)}, tmp_path)
    checkpoint.take_equal(["a", "b"])
    assert checkpoint.unused() == ["c"]
    with pytest.raises(BundleError, match="c differs from a"):
        checkpoint.take_equal(["a", "c"])
    with pytest.raises(BundleError, match=r"a has shape \[2\], expected \[3\]"):
        checkpoint.take("a", (3,))
