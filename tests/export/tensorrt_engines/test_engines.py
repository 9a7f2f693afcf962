"""Engines of all forms, methods and precisions for SM 86, 89 and 120, built with no GPU."""

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from propetl.errors import BackendError, MissingExtraError
from propetl.export.tensorrt_engines import builder as graph_builder
from propetl.export.tensorrt_engines import engines
from propetl.export.tensorrt_engines.engines import build_engines, builders_of
from propetl.export.tensorrt_engines.options import TensorRTOptions, parse_shapes
from propetl.runtime.artifact import Artifact

trt = pytest.importorskip("tensorrt_rtx")

GPUS = (86, 89, 120)
NUMPY = {"INT64": "int64", "UINT8": "uint8", "FLOAT": "float32"}
SHAPES = (parse_shapes("1x1/2x8/4x16"),)


def quiet(*told):
    """Reports nothing."""


def options(**chosen):
    return TensorRTOptions(("tensorrt-rtx",), **{"compute_capabilities": GPUS, "shapes": SHAPES} | chosen)


@pytest.fixture(scope="module")
def built(made, tmp_path_factory):
    """A function from method, precision and form to the engines of a copy of the method's artifact."""
    found = {}

    def of(method, precision, form):
        key = (method, precision, form)
        if key not in found:
            folder, manifest = tmp_path_factory.mktemp("built") / "artifact", of_one_form(made(method).manifest, form)
            shutil.copytree(made(method).artifact, folder)
            told = []
            records = build_engines(
                Artifact(folder, manifest), folder, builders_of(options(precisions=(precision,))), told.append, quiet
            )
            found[key] = (folder, manifest, records, told)
        return found[key]

    return of


def of_one_form(manifest, form):
    """One graph is enough for a form that has one for each task."""
    info = manifest.forms[form]
    graphs = dict(list(info.graphs.items())[:1])
    return replace(manifest, forms={form: replace(info, graphs=graphs, stages=None)})


every_form = pytest.mark.parametrize("form", ["folded", "switchable", "bank"])
every_method = pytest.mark.parametrize("method", ["adapter", "lora", "prefix"])


@pytest.mark.parametrize("form", ["switchable", "bank"])
def test_layer_masks_are_constants_that_choose(built, form):
    """Booleans and Where: TensorRT takes them, and a task's single mask and its language's as inputs."""
    folder, manifest, (record,), _ = built("hybrid", "fp32", form)
    assert (folder / record.path).stat().st_size > 100_000
    graph = manifest.forms[form].graph
    masks = {item.name: item.shape for item in graph.inputs if "mask." in item.name}
    single = (-(-5 * manifest.backbone.hidden_size // 8),)
    names = [f"{kind}{side}.weight" for kind in ("mask.", "language_mask.") for side in ("down", "up")]
    assert masks == (dict.fromkeys(names, single) if form == "switchable" else {})


@every_form
@every_method
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_an_engine_is_built_and_recorded(built, method, precision, form):
    folder, manifest, records, told = built(method, precision, form)
    (record,) = records
    task = next(iter(manifest.forms[form].graphs), None)
    where = "/".join(filter(None, ("engines", form, task)))
    assert record.path == f"{where}/tensorrt-rtx-{precision}.plan"
    assert (record.form, record.task, record.precision) == (form, task, precision)
    assert (record.target, record.version, record.compute_capabilities) == ("tensorrt-rtx", trt.__version__, GPUS)
    assert record.profiles[0].sizes["batch"] == (1, 2, 4) and record.profiles[0].sizes["sequence"] == (1, 8, 16)
    assert ("labels" in record.profiles[0].sizes) == (form == "switchable")
    assert record.build_seconds > 0
    assert record.calibration_rows == (0 if precision != "int8" else 3 if form == "folded" else 9)
    size = (folder / record.path).stat().st_size
    assert size > 100_000
    assert any(line.startswith(f"  {record.path}: {size:,} bytes in ") for line in told)
    assert f"checking 1 graphs: tensorrt-rtx {trt.__version__}" in told and f"building {record.path}" in told
    assert not list(folder.glob(".lowered.*"))


@every_method
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_two_stages_are_built_once_for_all_forms(made, tmp_path, method, precision):
    folder = tmp_path / "artifact"
    shutil.copytree(made(method).artifact, folder)
    artifact = Artifact(folder, replace(made(method).manifest, forms={"bank": made(method).manifest.forms["bank"]}))
    one, apply, run = build_engines(artifact, folder, builders_of(options(precisions=(precision,))), quiet, quiet)
    assert [str(record.name) for record in (one, apply, run)] == ["bank", "stages/apply", "stages/run"]
    assert apply.path == f"engines/stages/apply/tensorrt-rtx-{precision}.plan"
    for record in (apply, run):
        assert (record.compute_capabilities, record.calibration_rows) == (GPUS, 9 if precision == "int8" else 0)
        assert (folder / record.path).stat().st_size > 100_000
    assert apply.profiles[0].sizes == {"rows": (1, 1, 1), "labels": (1, 5, 32)}
    assert run.profiles[0].sizes["rows"] == (1, 1, 4) and run.profiles[0].sizes["batch"] == (1, 2, 4)


def test_precisions_are_different_engines(built):
    contents = {
        precision: (folder / records[0].path).read_bytes()
        for precision in ("fp32", "fp16", "bf16", "tf32", "int8")
        for folder, _, records, _ in [built("adapter", precision, "folded")]
    }
    assert len(set(contents.values())) == 5


@pytest.mark.parametrize(
    ("method", "precision", "form", "same"),
    [
        ("adapter", "fp16", "folded", True),
        ("lora", "int8", "switchable", False),
        ("prefix", "fp32", "bank", False),
    ],
)
def test_a_rebuild_is_the_same_bytes_or_at_least_as_many(built, made, tmp_path, method, precision, form, same):
    """Of some graphs, the compiler of TensorRT for RTX numbers the sizes that it computes as it likes."""
    folder, manifest, (record,), _ = built(method, precision, form)
    shutil.copytree(made(method).artifact, tmp_path / "again")
    again = Artifact(tmp_path / "again", manifest)
    build_engines(again, again.path, builders_of(options(precisions=(precision,))), quiet, quiet)
    one, other = (tmp_path / "again" / record.path).read_bytes(), (folder / record.path).read_bytes()
    assert len(one) == len(other)
    assert one == other or not same


def lowered(one, precision, folder, form):
    """The graphs of a form as a builder gets them; their weights go to ``folder``."""
    artifact = Artifact(one.artifact, of_one_form(one.manifest, form))
    return list(engines._lowered(engines._Source(artifact, folder, options(precisions=(precision,)), quiet), folder))


def network_of(item):
    """Parsed without the code under test; with what has to live as long."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(item.graph.content, str(item.graph.weights_folder / "model.onnx"))
    return builder, network, parser


@every_form
@every_method
@pytest.mark.parametrize(("precision", "kind"), [("fp32", "FLOAT"), ("fp16", "HALF"), ("int8", "HALF")])
def test_the_network_takes_and_gives_what_the_manifest_says(made, tmp_path, method, form, precision, kind):
    """And its products are of the precision. It stands for the plan, which is not read back without a driver."""
    (item,) = lowered(made(method), precision, tmp_path, form)
    _, network, _parser = network_of(item)
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    for stated, tensors in ((item.info.inputs, inputs), (item.info.outputs, outputs)):
        found = {(tensor.name, NUMPY[tensor.dtype.name], tuple(tensor.shape)) for tensor in tensors}
        sizes = [tuple(size if isinstance(size, int) else -1 for size in each.shape) for each in stated]
        assert found == {(each.name, each.dtype, shape) for each, shape in zip(stated, sizes, strict=True)}
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    kinds = Counter((layer.type.name, layer.get_output(0).dtype.name) for layer in layers)
    assert {dtype for name, dtype in kinds if name == "MATRIX_MULTIPLY"} == {kind}
    assert {dtype for name, dtype in kinds if name == "NORMALIZATION"} == {"FLOAT"}
    assert (kinds["QUANTIZE", "INT8"] > 0) == (precision == "int8") == (kinds["DEQUANTIZE", "HALF"] > 0)


@every_form
@every_method
def test_the_builder_is_given_the_profiles_of_the_record(made, tmp_path, monkeypatch, method, form):
    """All of them, for every input that leaves a size open."""
    given = []
    real = graph_builder._optimization_profile

    def noted(builder, network, profile, graph):
        given.append((real(builder, network, profile, graph), graph))
        return given[-1][0]

    monkeypatch.setattr(graph_builder, "_optimization_profile", noted)
    manifest = of_one_form(made(method).manifest, form)
    two = options(shapes=(*SHAPES, parse_shapes("1x1/1x16/1x16")))
    (record,) = build_engines(Artifact(made(method).artifact, manifest), tmp_path, builders_of(two), quiet, quiet)
    assert len(given) == len(record.profiles) == 2
    for (profile, graph), stated in zip(given, record.profiles, strict=True):
        free = [item for item in graph.inputs if any(isinstance(size, str) for size in item.shape)]
        assert len(free) >= 2
        for item in free:
            expected = [
                tuple(size if isinstance(size, int) else stated.sizes[size][which] for size in item.shape)
                for which in range(3)
            ]
            assert [tuple(shape) for shape in profile.get_shape(item.name)] == expected


def test_int8_without_onnxruntime_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"--precision int8 needs 'onnxruntime'.*\[cpu\]"):
        builders_of(options(precisions=("int8",)))


def test_nothing_is_built_if_one_graph_cannot_be_read(made, tmp_path):
    folder, manifest = tmp_path / "artifact", made("adapter").manifest
    shutil.copytree(made("adapter").artifact, folder)
    info = manifest.forms["bank"].graph
    model = ir.load(folder / info.path)
    gelu = next(node for node in model.graph if node.op_type == "Gelu")
    gelu.op_type, gelu.domain = "BiasGelu", "com.microsoft"
    model.opset_imports["com.microsoft"] = 1
    (folder / info.path).unlink()
    ir.save(model, folder / info.path)
    with pytest.raises(BackendError, match=rf"bank/model\.onnx at fp32: .*node '{gelu.name}' \(BiasGelu\): "):
        build_engines(Artifact(folder, manifest), folder, builders_of(options()), quiet, quiet)
    assert not (folder / "engines").exists()
    assert not list(folder.glob(".lowered.*"))


@every_method
@pytest.mark.parametrize(("precision", "rounding"), [("fp16", 0.002), ("int8", 0.1)])
def test_lowered_graphs_answer_as_pytorch_but_for_rounding(made, tmp_path, method, precision, rounding):
    """On ONNX Runtime's CPU provider; every graph, every task."""
    one = made(method)
    source = engines._Source(Artifact(one.artifact, one.manifest), tmp_path, options(precisions=(precision,)), quiet)
    applied = {}
    for item in engines._lowered(source, tmp_path):
        settings = ort.SessionOptions()
        settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(tmp_path))
        session = ort.InferenceSession(item.graph.content, settings, providers=["CPUExecutionProvider"])
        assert (session.get_outputs()[0].type, len(session.get_inputs())) == ("tensor(float)", len(item.info.inputs))
        if item.name.part == "apply":
            packs = {task: source.artifact.pack(task).tensors() for task in one.manifest.tasks}
            for task, tensors in packs.items():
                found = session.run(None, {name: tensor[None] for name, tensor in tensors.items()})
                applied[task] = dict(zip([output.name for output in item.info.outputs], found, strict=True))
            continue
        tasks = [item.name.task] if item.name.task else [] if item.name.form == "bare" else one.manifest.tasks
        for task in tasks:
            inputs = one.inputs(16, 9)
            expected, feeds = one.logits(task, inputs), dict(inputs)
            if item.name.form == "switchable":
                feeds |= source.artifact.pack(task).tensors()
            if item.name.part == "run":
                feeds |= applied[task]
            if item.name.form == "bank":
                feeds["task_id"] = np.full(16, one.manifest.forms["bank"].task_ids[task])
            found = session.run(None, feeds)[0][:, : expected.shape[1]]
            off = np.abs(found - expected).mean() / np.abs(expected).mean()
            assert 0 < off < rounding, (item.graph.name, task)
    assert set(applied) == set(one.manifest.tasks)


def test_lowered_graphs_share_weights_and_these_are_the_rounded_ones(made, tmp_path):
    folder, manifest = made("adapter").artifact, made("adapter").manifest
    source = engines._Source(Artifact(folder, manifest), tmp_path, options(precisions=("fp16",)), quiet)
    wanted = list(engines._lowered(source, tmp_path))
    assert len(wanted) == 8
    lowered, shared = (folder / "backbone.data").read_bytes(), (tmp_path / "backbone-fp16.data").read_bytes()
    for item in wanted:
        before = ir.load(folder / item.info.path).graph.initializers
        model = ir.from_proto(ir.serde.onnx.ModelProto.FromString(item.graph.content))
        tensors = [value.const_value for value in model.graph.initializers.values()]
        external = [tensor for tensor in tensors if isinstance(tensor, ir.ExternalTensor)]
        halves = [tensor for tensor in external if tensor.dtype == ir.DataType.FLOAT16]
        assert len(halves) > (0 if item.name.part == "apply" else 10) and {tensor.location for tensor in external} == {
            "backbone-fp16.data"
        }
        for tensor in halves:
            original = before[tensor.name].const_value
            if isinstance(original, ir.ExternalTensor):
                found = np.frombuffer(shared, np.float16, tensor.shape[0], tensor.offset)
                expected = np.frombuffer(lowered, np.float32, tensor.shape[0], original.offset)
                np.testing.assert_array_equal(found, expected.astype(np.float16))
