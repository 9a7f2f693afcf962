"""Export and tune in one go."""

import numpy as np
import pytest

from propetl.export.options import ExportOptions
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime import Session
from propetl.runtime.manifest import TUNED
from propetl.runtime.tuned import PACKED_FILE, TUNED_MANIFEST, read_tuned
from propetl.runtime.tuning import tune
from tests.export.random_artifact import Case, make

ADAPTER = PrototypeConfig(bottleneck=4)


# 64 floats are whole lines of a cache, and weights are kept packed; 24 are not, and packed ones would crash.
@pytest.mark.parametrize(("hidden", "packed"), [(64, True), (24, False)])
def test_a_tuned_export_answers_as_pytorch_does_from_its_tuned_graphs(tmp_path, hidden, packed):
    case = Case("bert", ADAPTER, hidden=hidden, layers=1, tasks={"two": 2, "three": 3})
    made = make(tmp_path, case, ExportOptions(tune=True))
    assert (made.artifact / TUNED / TUNED_MANIFEST).is_file()
    assert not tune(made.artifact)  # the device is this one
    tuned = read_tuned(made.artifact)
    assert tuned is not None and set(tuned.graphs) == {"folded/two/model.onnx", "folded/three/model.onnx"}
    (weights,) = {graph.weights for graph in tuned.graphs.values()}  # one file for both tasks
    size = (made.artifact / TUNED / weights / PACKED_FILE).stat().st_size
    assert (size > 1.2 * (made.artifact / "backbone.data").stat().st_size) == packed
    for task in ("two", "three"):
        (made.artifact / f"folded/{task}/model.onnx").write_bytes(b"")
    inputs = made.inputs(3, 7)
    with Session.open(made.artifact, threads=1, verify=False) as session:
        for task in ("two", "three"):
            np.testing.assert_allclose(session.run(task, inputs), made.logits(task, inputs), rtol=1e-5, atol=1e-5)
