"""The whole way of a checkpoint of the paper's own code: imported, exported, and run without PyTorch."""

import numpy as np
import pytest
import torch

from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.reference_import.convert import import_checkpoint
from propetl.reference_import.options import ImportOptions
from propetl.runtime import Session
from tests.export.random_artifact import random_inputs
from tests.propetl.reference_import import reference_files as reference


@pytest.mark.parametrize("make", [reference.adapter_files, reference.prefix_files])
def test_a_session_answers_as_the_references_equations_say(make, tmp_path):
    backbone = reference.backbone_in(tmp_path)
    files = make(tmp_path / "rte")
    import_checkpoint(files.save(), tmp_path / "bundle", ImportOptions(backbone=backbone.info.name))
    export_bundle(tmp_path / "bundle", tmp_path / "artifact", ExportOptions(forms=("folded",)))
    with Session.open(tmp_path / "artifact", threads=1) as session:
        for rows, length, seed in [(1, 1, 0), (4, 13, 1)]:
            inputs = random_inputs(("input_ids", "attention_mask"), seed, rows, length)
            expected = files.logits(backbone.model, {name: torch.from_numpy(ids) for name, ids in inputs.items()})
            np.testing.assert_allclose(session.run("rte", inputs), expected, rtol=1e-5, atol=1e-5)
        assert session.predict("rte", [("A man eats.", "Somebody eats.")])[0].label in files.head_config["label2id"]
