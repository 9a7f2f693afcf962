"""Quantised artifacts: how close they are, how small, what they share, and what is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from click.testing import CliRunner

from propetl.bundle import read_bundle
from propetl.cli.main import main
from propetl.errors import CheckFailed, ConfigurationError, DataError
from propetl.export import quantisation_loss
from propetl.export.options import ExportOptions
from propetl.export.quantisation_loss import LossTooLarge
from propetl.export.writer import export_bundle
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime import Session
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines.ort_tuned import WEIGHTS_FOLDER
from propetl.runtime.losses import Loss, check_drop
from propetl.runtime.report import TOLERANCES, Comparison
from propetl.runtime.selftest import self_test
from tests.export.random_artifact import ALL_FORMS, Case, export, random_bundle, write_rows

# Wide enough that products, prototype and embeddings are worth quantising. One layer: random weights are many times as
# large as trained ones, and from layer to layer they multiply what rounding them has cost; a LoRA scaled by 3, as it is
# by the default alpha, multiplies it again.
LORA = PrototypeConfig("lora", rank=16, alpha=16.0, sparsity=0.5)
CASES = {
    "adapter": Case("bert", PrototypeConfig(bottleneck=16, sparsity=0.5), hidden=64, layers=1, tasks={"two": 2}),
    "lora": Case("roberta", LORA, head="own", hidden=64, layers=1),
    "prefix": Case("distilbert", PrototypeConfig("prefix", prefix_length=16), hidden=64, layers=1),
}
PRECISIONS = {"int8": "standard", "int8-static": "onnxruntime", "int4": "onnxruntime"}


@pytest.fixture(scope="module", params=CASES)
def bundle(request, tmp_path_factory):
    return random_bundle(tmp_path_factory.mktemp(request.param), CASES[request.param])


@pytest.fixture(scope="module", params=PRECISIONS)
def quantised(request, bundle, tmp_path_factory):
    options = ExportOptions(forms=ALL_FORMS, quantize=request.param, operators=PRECISIONS[request.param])
    backbone, stored = bundle
    return export(backbone, stored, tmp_path_factory.mktemp("quantised") / request.param, options)


@pytest.fixture(scope="module")
def plain(bundle, tmp_path_factory):
    backbone, stored = bundle
    return export(backbone, stored, tmp_path_factory.mktemp("plain") / "fp32", ExportOptions(forms=ALL_FORMS))


def test_every_form_is_within_the_tolerance_of_its_precision(quantised):
    tolerance = TOLERANCES[quantised.manifest.precision]
    for form in ALL_FORMS:
        with Session.open(quantised.artifact, form=form, threads=1) as session:
            for task in quantised.manifest.tasks:
                inputs = _rows_of(quantised, task)
                found, expected = session.run(task, inputs), quantised.logits(task, inputs)
                assert (np.abs(found - expected) <= tolerance.absolute + tolerance.relative * np.abs(expected)).all()
                assert np.abs(found - expected).max() > 1e-5  # it is quantised at all


def _rows_of(quantised, task):
    """Rows of any kind; where ranges were measured, rows of the kind they were measured on: others may lie beyond."""
    if quantised.manifest.precision != "int8-static":
        return quantised.inputs(4, 9)
    return read_artifact(quantised.artifact).golden(task).feeds


def test_it_checks_itself(quantised):
    assert self_test(quantised.artifact, threads=1).passed


def test_every_product_with_measured_ranges_runs_on_an_integer_kernel(quantised, tmp_path):
    """ONNX Runtime has joined what says so in the graph to one operator, with integers out if a product reads them."""
    if quantised.manifest.precision != "int8-static":
        pytest.skip("the others have operators of their own")
    for number, graph in enumerate(sorted(quantised.artifact.rglob("*/model.onnx"))):
        products = [node for node in ir.load(graph).graph if node.op_type == "MatMul" and _is_dequantised(node)]
        assert products or graph.parent.name == "apply", graph
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / f"{number}.onnx")
        options.add_session_config_entry(WEIGHTS_FOLDER, str(quantised.artifact))
        onnxruntime.InferenceSession(graph.read_bytes(), options, providers=["CPUExecutionProvider"])
        optimised = list(ir.load(tmp_path / f"{number}.onnx").graph)
        found = [node.op_type for node in optimised]
        assert found.count("MatMulIntegerToFloat") + found.count("QLinearMatMul") == len(products), graph
        assert not [node for node in optimised if node.op_type == "MatMul" and _is_dequantised(node)]


def _is_dequantised(node):
    producers = [value.producer() for value in node.inputs]
    return all(producer is not None and producer.op_type == "DequantizeLinear" for producer in producers)


def test_weights_of_a_task_stay_in_its_graph(quantised):
    """Integers and their scales as well: another task's graph would not read them."""
    if quantised.manifest.prototype.method == "prefix":
        pytest.skip("a prefix is no product")
    for task in quantised.manifest.tasks:
        values = ir.load(quantised.artifact / f"folded/{task}/model.onnx").graph.initializers.values()
        own = [value.const_value for value in values if not isinstance(value.const_value, ir.ExternalTensor)]
        assert any(tensor and tensor.dtype != ir.DataType.FLOAT and tensor.nbytes >= 1024 for tensor in own)


def test_the_shared_file_holds_integers(quantised, plain):
    """Products are a quarter, or an eighth and scales by block; tables of so few words stay floats."""
    largest = {"int8": 0.55, "int8-static": 0.55, "int4": 0.45}[quantised.manifest.precision]
    tensors = {}
    for graph in quantised.artifact.rglob("*/model.onnx"):
        for value in ir.load(graph).graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                tensors[value.const_value.offset] = value.const_value
    floats = sum(item.nbytes for item in tensors.values() if item.dtype == ir.DataType.FLOAT)
    integers = sum(item.nbytes for item in tensors.values() if item.dtype != ir.DataType.FLOAT)
    before = {}
    for graph in plain.artifact.rglob("*/model.onnx"):
        for value in ir.load(graph).graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                before[value.const_value.offset] = value.const_value.nbytes
    assert integers and floats + integers < largest * sum(before.values())


def test_forms_share_one_copy_of_each_matrix(quantised):
    """What no task owns stands in the shared file; at the same place for every form."""
    places = {}
    for form in ("switchable", "bank"):
        for value in ir.load(quantised.artifact / form / "model.onnx").graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                places.setdefault(value.name, set()).add(value.const_value.offset)
            elif form == "switchable":
                assert value.const_value is not None and value.const_value.nbytes < 1024, value.name
    assert any(name.endswith((".int8", ".int4")) for name in places)
    assert all(len(offsets) == 1 for offsets in places.values())


def test_a_manifest_keeps_what_was_lost(quantised):
    manifest = read_artifact(quantised.artifact).manifest
    assert manifest.precision in PRECISIONS
    measured = {(loss.task, loss.form.partition(",")[0]) for loss in manifest.losses}
    assert measured >= {(task, form) for task in manifest.tasks for form in ALL_FORMS}
    assert all(loss.metric is None and 0 <= loss.agreement <= 1 for loss in manifest.losses)


def test_a_float_artifact_lost_nothing(plain):
    assert plain.manifest.losses == () and plain.manifest.precision == "fp32"


COMPARISON = Comparison(
    task="two",
    form="folded",
    rows=100,
    max_abs=0.1,
    max_rel=0.1,
    tolerance=TOLERANCES["int8"],
    agreement=0.97,
    worst_row=3,
    passed=True,
    metrics_reference={"accuracy": 0.90},
    metrics_artifact={"accuracy": 0.88},
)


class TestRefused:
    """In one line, with nothing written."""

    @pytest.fixture
    def small(self, tmp_path):
        case = Case("bert", PrototypeConfig("head"), layers=1, tasks={"two": 2})
        return random_bundle(tmp_path, case)[1].path

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"quantize": "int2"}, "'int2' is not known; known: fp32, fp16, bf16, int8, int8-static, int4"),
            ({"quantize": "int4"}, "add --operators onnxruntime"),
            ({"quantize": "int8-static", "opset": 18}, "--quantize int8-static needs --opset 19 or later; got 18"),
            ({"data": "rows"}, "--data .* goes with --quantize"),
            ({"quantize": "int8", "max_drop": -1.0}, "--max-drop takes points"),
        ],
    )
    def test_options_that_do_not_go_together(self, small, tmp_path, options, words):
        with pytest.raises(ConfigurationError, match=words):
            export_bundle(small, tmp_path / "out", ExportOptions(**options))
        assert not (tmp_path / "out").exists()

    def test_too_much_of_a_loss(self, small, tmp_path, monkeypatch):
        asked = []

        def compare(artifact: Path, bundle: Path, data: str, **rest):
            asked.append((bundle, data))
            yield COMPARISON

        monkeypatch.setattr("propetl.export.parity.compare", compare)
        rows = str(write_rows(tmp_path / "rows", read_bundle(small)))
        options = ExportOptions(quantize="int8", data=rows, max_drop=1.0)
        words = r"costs two in form folded 2\.00 points of accuracy, more than the 1"
        with pytest.raises(LossTooLarge, match=words) as told:
            export_bundle(small, tmp_path / "out", options)
        assert told.value.losses == (Loss("two", "folded", 100, 0.97, "accuracy", 0.9, 0.88),)
        assert asked == [(small, rows)]
        assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
        manifest = export_bundle(small, tmp_path / "out", dataclasses.replace(options, max_drop=2.5))
        (loss,) = manifest.losses
        assert loss == Loss("two", "folded", 100, 0.97, "accuracy", 0.9, 0.88)
        assert read_artifact(tmp_path / "out").manifest.losses == manifest.losses

    def test_a_metric_that_is_no_number(self):
        options = ExportOptions(quantize="int8", data="rows")
        loss = Loss("two", "folded", 3, 0.1, "pearson", 0.5, float("nan"))
        with pytest.raises(CheckFailed, match="nan points of pearson"):
            quantisation_loss._check((loss,), options)

    def test_rows_that_cannot_be_read_are_missed_before_the_work(self, small, tmp_path):
        lines: list[str] = []
        options = ExportOptions(quantize="int8", data=str(tmp_path / "nowhere"))
        with pytest.raises(DataError, match="nowhere"):
            export_bundle(small, tmp_path / "out", options, lines.append)
        assert lines == []

    def test_the_refusal_shows_what_was_measured(self, small, tmp_path, monkeypatch):
        monkeypatch.setattr("propetl.export.parity.compare", lambda *_, **__: iter([COMPARISON]))
        rows = write_rows(tmp_path / "rows", read_bundle(small))
        arguments = ["export", str(small), "-o", str(tmp_path / "out"), "--quantize", "int8", "--data", str(rows)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1 and "costs two in form folded 2.00 points" in result.stderr
        assert "int8 beside PyTorch in fp32" in result.stdout
        assert "accuracy 0.9000 → 0.8800" in result.stdout and "+2.00" in result.stdout


def test_points_are_lost_or_won():
    assert Loss("two", "bank", 9, 1.0, "f1", 0.5, 0.49).points == pytest.approx(1)
    assert Loss("two", "bank", 9, 1.0, "f1", 0.5, 0.51).points == pytest.approx(-1)
    assert Loss("two", "bank", 9, 1.0).points is None


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_limit_that_is_none(value):
    with pytest.raises(ConfigurationError, match="--max-drop"):
        check_drop(value)
