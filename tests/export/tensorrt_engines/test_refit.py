"""One folded plan for all tasks. Such plans are built with a GPU only: here, up to the builder."""

import json
import shutil

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from propetl.bundle.tensors import read_tensors
from propetl.errors import BackendError
from propetl.export.tensorrt_engines import engines, flavour
from propetl.export.tensorrt_engines.builder import EngineBuilder, Plan
from propetl.export.tensorrt_engines.engines import build_engines, builders_of
from propetl.export.tensorrt_engines.lowering import load_graph
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.export.tensorrt_engines.refit import TASK_WEIGHTS, fill_up, task_weights, weight_names
from propetl.runtime.artifact import Artifact

pytest.importorskip("tensorrt_rtx")

every_method = pytest.mark.parametrize("method", ["adapter", "lora", "prefix"])
PRECISIONS = {"fp32": np.float32, "tf32": np.float32, "fp16": np.float16, "int8": np.float16}


def quiet(*told):
    """Reports nothing."""


def options(*precisions, **chosen):
    return TensorRTOptions(("tensorrt-rtx",), precisions, compute_capabilities=(89,), **{"refit": True} | chosen)


def models_of(one):
    graphs = one.manifest.forms["folded"].graphs
    return {task: load_graph(one.artifact / info.path, one.artifact) for task, info in graphs.items()}


def common(one, folder, precision):
    """The graph for all tasks, as the builder gets it."""
    source = engines._Source(Artifact(one.artifact, one.manifest), folder, options(precision), quiet)
    return next(item for item in engines._lowered(source, folder) if item.name.form == "folded")


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(flavour, "gpu_here", lambda: 89)


@every_method
def test_marked_are_the_weights_that_tell_tasks_apart_and_no_others(made, method):
    models = models_of(made(method))
    named = set(weight_names(models))
    first, *others = models.values()
    differ = {
        name
        for name, value in first.graph.initializers.items()
        for other in others
        if not np.array_equal(value.const_value.numpy(), other.graph.initializers[name].const_value.numpy())
    }
    assert differ == named and len(named) >= 6
    assert "head.bias" in named


@every_method
def test_the_common_graph_with_a_tasks_weights_answers_as_that_task(made, tmp_path, method):
    """And back again: nothing of the task between is left."""
    one = made(method)
    wanted = common(one, tmp_path, "fp32")
    inputs = one.inputs(4, 9)
    for task in ("five", "two", "value", "two", "five"):
        weights, expected = wanted.refits[task], one.logits(task, inputs)
        model = ir.from_proto(ir.serde.onnx.ModelProto.FromString(wanted.graph.content))
        for name, array in weights.items():
            model.graph.initializers[name].const_value = ir.tensor(array, name=name)
        settings = ort.SessionOptions()
        settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(tmp_path))
        session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), settings)
        found = session.run(None, inputs)[0]
        assert found.shape == (4, 5)
        np.testing.assert_allclose(found[:, : expected.shape[1]], expected, rtol=1e-5, atol=1e-5)
        assert not found[:, expected.shape[1] :].any()


@every_method
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_network_marks_just_these(made, tmp_path, gpu, method, precision):
    one = made(method)
    wanted = common(one, tmp_path, precision)
    (builder,) = builders_of(options(precision))
    _, network = builder._parse(wanted.graph)
    names = set(wanted.graph.refittable)
    model = ir.from_proto(ir.serde.onnx.ModelProto.FromString(wanted.graph.content))
    floats = [
        name
        for name, value in model.graph.initializers.items()
        if value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16)
    ]
    marked = {name for name in floats if network.are_weights_marked_refittable(name)}
    assert marked == names == set(weight_names(models_of(one)))
    config = builder._config(builder._library.Builder(builder._log), precision, refittable=True)
    flags = builder._library.BuilderFlag
    assert config.get_flag(flags.REFIT_INDIVIDUAL) and not config.get_flag(flags.REFIT)


@pytest.mark.parametrize(("precision", "dtype"), PRECISIONS.items())
def test_files_of_all_tasks_have_the_same_names_shapes_and_types(made, tmp_path, precision, dtype):
    refits = common(made("lora"), tmp_path, precision).refits
    described = {
        task: {(name, array.shape, array.dtype) for name, array in weights.items()} for task, weights in refits.items()
    }
    assert set(refits) == {"value", "two", "five"}
    assert len(set(map(frozenset, described.values()))) == 1
    assert {kind for _, _, kind in described["two"]} == {np.dtype(dtype)}


def test_a_weight_that_the_network_does_not_know(made, tmp_path, gpu):
    graph = common(made("adapter"), tmp_path, "fp32").graph
    unknown = type(graph)(**vars(graph) | {"refittable": ("nonsense",)})
    (builder,) = builders_of(options("fp32"))
    with pytest.raises(BackendError, match="knows no weights 'nonsense'"):
        builder.check(unknown)


def test_one_plan_and_a_file_for_each_task_are_recorded(made, tmp_path, gpu, monkeypatch):
    """The builder itself, which needs a driver for such plans, is the one thing replaced here."""
    monkeypatch.setattr(EngineBuilder, "build", lambda *given: Plan(b"plan", 1.0))
    one, folder = made("adapter"), tmp_path / "artifact"
    shutil.copytree(one.artifact, folder)
    records = build_engines(Artifact(folder, one.manifest), folder, builders_of(options("fp16", "fp32")), quiet, quiet)
    folded = {record.precision: record for record in records if record.form == "folded"}
    assert set(folded) == {"fp16", "fp32"} and len(records) == 12
    for precision, record in folded.items():
        assert (record.path, record.task) == (f"engines/folded/tensorrt-rtx-{precision}.plan", None)
        tasks = one.manifest.forms["folded"].graphs
        assert record.refits == {task: f"engines/folded/{task}/{precision}.safetensors" for task in tasks}
        for task, path in record.refits.items():
            weights, described = read_tensors(folder / path)
            assert described == {"format": "propetl-refit", "version": 1, "task": task, "precision": precision}
            assert weights["head.bias"].shape == (5,)
    assert all(not record.refits for record in records if record.form != "folded")


def test_a_stripped_plan_names_the_graph_that_its_weights_come_from(made, tmp_path, gpu, monkeypatch):
    monkeypatch.setattr(EngineBuilder, "build", lambda *given: Plan(b"plan", 1.0))
    one, folder = made("adapter"), tmp_path / "artifact"
    shutil.copytree(one.artifact, folder)
    chosen = options("fp32", "fp16", refit=False, strip_weights=True)
    records = build_engines(Artifact(folder, one.manifest), folder, builders_of(chosen), quiet, quiet)
    stripped = {(record.form, record.task, record.precision): record.weights_graph for record in records}
    assert stripped["folded", "two", "fp32"] == "folded/two/model.onnx"
    assert stripped["folded", "two", "fp16"] == "engines/folded/two/fp16.onnx"
    assert stripped["bank", None, "fp16"] == "engines/bank/fp16.onnx"
    (builder,) = builders_of(chosen)
    flags = builder._library.BuilderFlag
    assert builder._config(builder._library.Builder(builder._log), "fp16").get_flag(flags.STRIP_PLAN)
    # The graph is whole: with its weights at the artifact's root, an engine reads it.
    settings = ort.SessionOptions()
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    session = ort.InferenceSession((folder / "engines/folded/two/fp16.onnx").read_bytes(), settings)
    found = session.run(None, one.inputs(2, 5))[0]
    np.testing.assert_allclose(found, one.logits("two", one.inputs(2, 5)), atol=0.02)


class TestGraphsThatDoNotFitTogether:
    def test_other_weights(self, made):
        models = models_of(made("adapter"))
        models["two"].metadata_props[TASK_WEIGHTS] = json.dumps(["head.bias"])
        with pytest.raises(BackendError, match="have different weights"):
            weight_names(models)

    def test_no_weights_are_named(self, made):
        models = models_of(made("adapter"))
        for model in models.values():
            del model.metadata_props[TASK_WEIGHTS]
        with pytest.raises(BackendError, match="have different weights"):
            weight_names(models)

    def test_another_constant(self, made):
        models = models_of(made("adapter"))
        fill_up(models)
        constant = next(
            value for name, value in models["two"].graph.initializers.items() if name not in weight_names(models)
        )
        array = constant.const_value.numpy()
        constant.const_value = ir.tensor(array + np.ones_like(array), name=constant.name)
        with pytest.raises(BackendError, match="the folded graph of two differs in more than its weights"):
            task_weights(models)

    def test_another_operator(self, made):
        models = models_of(made("adapter"))
        fill_up(models)
        next(node for node in models["five"].graph if node.op_type == "Relu").op_type = "Sigmoid"
        with pytest.raises(BackendError, match="the folded graph of five differs"):
            task_weights(models)


@pytest.mark.usefixtures("gpu")
def test_refit_without_folded_graphs(made, tmp_path):
    from propetl.errors import ConfigurationError
    from propetl.export.options import ExportOptions
    from propetl.export.writer import export_bundle

    chosen = ExportOptions(forms=("bank",), engines=options("fp32"))
    with pytest.raises(ConfigurationError, match="add --form folded"):
        export_bundle(made("adapter").bundle.path, tmp_path / "out", chosen)
