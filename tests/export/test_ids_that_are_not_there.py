"""Graphs run by another tool, with ids that no entry has: each is an error, and none is the answer for another id."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from propetl.export.options import ExportOptions
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.engines.ort_tuned import WEIGHTS_FOLDER
from tests.export.random_artifact import Case, make
from tests.tiny_backbone import VOCABULARY


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    case = Case("bert", PrototypeConfig(bottleneck=4), layers=1, tasks={"two": 2, "five": 5})
    options = ExportOptions(forms=("folded", "switchable", "bank"))
    return make(tmp_path_factory.mktemp("ids"), case, options)


def run(artifact: Path, path: str, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(WEIGHTS_FOLDER, str(artifact))
    content = (artifact / path).read_bytes()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(["logits"], feeds)[0]


def extra_of(made, form, rows):
    """What a graph takes besides tokens."""
    if form == "bank":
        return {"task_id": np.array([0, 1, 0][:rows])}
    if form == "switchable":
        from propetl.runtime.artifact import read_artifact

        return dict(read_artifact(made.artifact).pack("two").tensors())
    return {}


PATHS = {"folded": "folded/two/model.onnx", "switchable": "switchable/model.onnx", "bank": "bank/model.onnx"}


@pytest.mark.parametrize("form", PATHS)
@pytest.mark.parametrize(
    ("name", "number"),
    [("input_ids", number) for number in (-1, -100, len(VOCABULARY))] + [("token_type_ids", -1), ("token_type_ids", 2)],
)
def test_tokens(made, form, name, number):
    feeds = {**made.inputs(3, 6), **extra_of(made, form, 3)}
    assert np.isfinite(run(made.artifact, PATHS[form], feeds)).all()
    feeds[name] = feeds[name].copy()
    feeds[name][1, 0] = number
    with pytest.raises(Exception, match="out of data bounds"):
        run(made.artifact, PATHS[form], feeds)


@pytest.mark.parametrize("number", [-1, -2, 2, 1000])
def test_tasks(made, number):
    feeds = {**made.inputs(3, 6), "task_id": np.array([0, number, 1])}
    with pytest.raises(Exception, match="out of data bounds"):
        run(made.artifact, "bank/model.onnx", feeds)
