"""Export and tune in one go."""

import numpy as np

from propetl.export.options import ExportOptions
from propetl.runtime import Session
from propetl.runtime.tuned import TUNED, TUNED_MANIFEST, read_tuned
from propetl.runtime.tuning import tune
from tests.export.random_artifact import export


def test_a_tuned_export_answers_as_pytorch_does_from_its_tuned_graphs(plain, tmp_path):
    backbone, bundle = plain
    made = export(backbone, bundle, tmp_path / "artifact", ExportOptions(tune=True))
    assert (made.artifact / TUNED / TUNED_MANIFEST).is_file()
    assert not tune(made.artifact)  # the device is this one
    tuned = read_tuned(made.artifact)
    assert tuned is not None and list(tuned.graphs) == ["folded/two/model.onnx"]
    (made.artifact / "folded/two/model.onnx").write_bytes(b"")
    inputs = made.inputs(3, 7)
    with Session.open(made.artifact, threads=1, verify=False) as session:
        np.testing.assert_allclose(session.run("two", inputs), made.logits("two", inputs), rtol=1e-5, atol=1e-5)
