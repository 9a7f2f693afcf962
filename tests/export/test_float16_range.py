"""Activations beyond float16: found on real rows, kept in float32, in every form; refused where nothing else is left.

ONNX Runtime computes float16 in float32 on a CPU; ONNX's own evaluator rounds after every operator, as a GPU does.
"""

import dataclasses
import shutil
import warnings

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from propetl.errors import CheckFailed, ConfigurationError
from propetl.export import quantisation_loss
from propetl.export.calibration import measured_batches, rows_in
from propetl.export.halved_graphs import halve_graphs
from propetl.export.options import ExportOptions
from propetl.export.tensorrt_engines.lowering import load_graph
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.artifact import Artifact, read_artifact
from propetl.runtime.report import TOLERANCES, Report, compare_logits
from tests.export.random_artifact import ALL_FORMS, Case, export, random_bundle, write_rows

ADAPTER = PrototypeConfig(bottleneck=8)
WIDE = {"intermediate.dense.weight": 2000.0, "layer.0.output.dense.weight": 2000.0}


def evaluated(artifact, path, feeds):
    """Outputs of a graph by the reference, whose warnings of overflow are what is looked for."""
    graph = ir.to_proto(load_graph(artifact / path, artifact))
    names = [value.name for value in graph.graph.output]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(zip(names, ReferenceEvaluator(graph).run(None, feeds), strict=True))


def near(found, expected):
    tolerance = TOLERANCES["fp16"]
    assert np.isfinite(found).all()
    assert (np.abs(found - expected) <= 3 * (tolerance.absolute + tolerance.relative * np.abs(expected))).all()


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A feed-forward network whose values reach millions, exported to float16 in every form."""
    folder = tmp_path_factory.mktemp("wide")
    bundle = random_bundle(folder, Case("bert", ADAPTER, layers=1, tasks={"two": 2, "five": 5}), WIDE)
    return export(*bundle, folder / "fp16", ExportOptions(forms=ALL_FORMS, quantize="fp16"))


def test_what_overflows_stays_float32_and_the_rest_does_not(wide):
    found = read_artifact(wide.artifact).manifest.float16
    assert found is not None and found.rows == 6 and found.margin == 4
    assert 0 < found.exact < found.products and found.largest > 65504
    assert any("stays float32" in line and "reaches" in line for line in wide.lines)
    said = f"float16: {found.exact} of {found.products} products stay float32, measured on 6 rows with a margin of 4"
    assert said in wide.lines


@pytest.mark.parametrize("task", ["two", "five"])
def test_no_form_overflows_in_float16(wide, task):
    inputs = wide.inputs(3, 6)
    expected, width = wide.logits(task, inputs), wide.manifest.tasks[task].info.outputs
    tensors = read_artifact(wide.artifact).pack(task).tensors()
    applied = evaluated(wide.artifact, "stages/apply/model.onnx", {name: one[None] for name, one in tensors.items()})
    task_id = np.full(3, wide.manifest.forms["bank"].task_ids[task])
    for path, extra in (
        (f"folded/{task}/model.onnx", {}),
        ("switchable/model.onnx", tensors),
        ("bank/model.onnx", {"task_id": task_id}),
        ("stages/run/model.onnx", applied),
    ):
        near(evaluated(wide.artifact, path, {**inputs, **extra})["logits"][:, :width], expected)


@pytest.fixture(scope="module")
def rare(tmp_path_factory):
    """Llama in float32, whose state is large at one word that is in no golden row."""
    folder = tmp_path_factory.mktemp("rare")
    bundle = random_bundle(folder, Case("llama", ADAPTER, layers=1, tasks={"two": 2}))
    made = export(*bundle, folder / "fp32", ExportOptions())
    data = made.artifact / "backbone.data"
    path = made.artifact / "folded/two/model.onnx"
    table = next(
        value.const_value
        for value in ir.load(path).graph.initializers.values()
        if isinstance(value.const_value, ir.ExternalTensor) and "embed_tokens" in str(value.name)
    )
    rows, width = map(int, table.shape.numpy())
    row = np.full(width, 30000, np.float32)
    content = bytearray(data.read_bytes())
    place = (table.offset or 0) + (rows - 1) * row.nbytes
    content[place : place + row.nbytes] = row.tobytes()
    data.write_bytes(content)
    return made, str(write_rows(folder / "rows", made.bundle, text="is dog"))


def test_rows_of_data_are_measured_too(rare, tmp_path):
    made, rows = rare
    found = {}
    for data in (None, rows):
        copied = shutil.copytree(made.artifact, tmp_path / str(data is None))
        halved = halve_graphs(copied, made.manifest, "fp16", data, lambda line: None)
        assert halved.float16 is not None
        found[data] = halved.float16
    assert (found[None].rows, found[rows].rows) == (3, 5)
    assert found[None].largest < 30000 <= found[rows].largest
    assert found[None].exact == 0


def test_development_rows_and_those_of_training_where_there_are_any(rare, tmp_path):
    made, rows = rare
    artifact = Artifact(made.artifact, made.manifest)
    assert rows_in(measured_batches(artifact, ["two"], rows)["two"]) == 3 + 2
    write_rows(tmp_path, made.bundle), write_rows(tmp_path, made.bundle, "train")
    assert rows_in(measured_batches(artifact, ["two"], str(tmp_path))["two"]) == 3 + 2 + 2


def test_an_artifact_of_which_nothing_fits_is_refused(tmp_path):
    """Embeddings of LayerNorms' outputs that are as large as everything after them."""
    scaled = {"LayerNorm.weight": 1e6}
    bundle = random_bundle(tmp_path, Case("bert", PrototypeConfig("head"), layers=1, tasks={"two": 2}), scaled)
    with pytest.raises(ConfigurationError, match=r"all \d+ products stay float32.* choose bf16 or fp32"):
        export(*bundle, tmp_path / "out", ExportOptions(quantize="fp16"))
    assert not (tmp_path / "out").exists()


def test_an_answer_that_is_no_number_ends_the_export(monkeypatch, tmp_path):
    nan = np.full((1, 2), np.nan, np.float32)
    broken = compare_logits("two", "folded", np.zeros((1, 2), np.float32), nan, TOLERANCES["fp16"])
    report = Report("out", "cpu", "fp16", comparisons=(dataclasses.replace(broken, batching="golden rows"),))
    monkeypatch.setattr(quantisation_loss, "self_test", lambda *_, **__: report)
    with pytest.raises(CheckFailed, match=r"--quantize fp16: task two, form folded .*nothing was written"):
        quantisation_loss.measured_losses(tmp_path, tmp_path, ExportOptions(quantize="fp16"))
