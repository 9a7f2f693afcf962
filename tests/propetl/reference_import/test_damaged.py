"""Whatever stands in a checkpoint's files, an import gives a bundle or one line."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as draw

from propetl.bundle import read_bundle
from propetl.errors import ProPETLError
from propetl.reference_import.convert import import_checkpoint
from propetl.reference_import.options import ImportOptions
from tests.propetl.reference_import import reference_files as reference

MAKERS = (reference.adapter_files, reference.lora_files, reference.prefix_files)

strange_settings = draw.sampled_from([None, True, -1, 0, 10**9, 0.5, "", "q", "learned", [], ["x"], [3], {}, {"a": 1}])
strange_tensors = draw.sampled_from(
    [
        torch.tensor(1.0),
        torch.zeros(0),
        torch.zeros(3),
        torch.zeros(2, 3),
        torch.full((24, 24), float("nan")),
        torch.zeros(2, 3, 4, dtype=torch.int64),
        torch.ones(5, dtype=torch.bool),
    ]
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return reference.backbone_in(tmp_path_factory.mktemp("damaged")).info.name


def test_an_import_ends_well_or_in_one_line(backbone, tmp_path_factory):
    @settings(max_examples=40, deadline=None, database=None)
    @given(data=draw.data())
    def check(data) -> None:
        folder = tmp_path_factory.mktemp("case")
        files = data.draw(draw.sampled_from(MAKERS))(folder / "rte")
        for _ in range(data.draw(draw.integers(1, 2))):
            change(files, data)
        line = refusal(files.save(), folder / "bundle", backbone)
        if line is None:
            read_bundle(folder / "bundle")
        else:
            assert "\n" not in line
            assert not (folder / "bundle").exists()

    check()


def refusal(checkpoint: Path, bundle: Path, backbone: str) -> str | None:
    """The error of an import; None if it went well."""
    try:
        import_checkpoint(checkpoint, bundle, ImportOptions(backbone=backbone))
    except ProPETLError as error:
        return str(error)
    return None


def change(files: reference.Written, data: Any) -> None:
    """Replaces or drops one setting or tensor."""
    where = data.draw(draw.sampled_from(["config", "head_config", "weights", "masks", "head"]))
    entries = getattr(files, where)
    if not entries:
        return
    changed = copy.copy(entries)
    name = data.draw(draw.sampled_from(sorted(changed)))
    if data.draw(draw.booleans()):
        changed[name] = data.draw(strange_settings if "config" in where else strange_tensors)
    else:
        del changed[name]
    setattr(files, where, changed)
