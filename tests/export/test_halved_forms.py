"""Artifacts at fp16 and bf16: how close they are, how small, what they share, who runs them, and what is refused."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from propetl.bundle import read_bundle
from propetl.bundle.format import pack_path
from propetl.errors import BackendError, CheckFailed, ConfigurationError
from propetl.export.options import HALVES, ExportOptions
from propetl.export.passes.lower_floats import LOWERED_TYPES
from propetl.export.tensorrt_engines.lowering import load_graph
from propetl.export.writer import export_bundle
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime import Session
from propetl.runtime.artifact import read_artifact
from propetl.runtime.report import TOLERANCES
from propetl.runtime.selftest import self_test
from propetl.runtime.tuned import read_tuned
from propetl.runtime.tuning import tune
from tests.export.random_artifact import ALL_FORMS, Case, export, make, random_bundle, write_rows
from tests.export.random_text_artifact import make_text_artifact
from tests.export.test_quantised_forms import COMPARISON, LORA

CASES = {
    "adapter": Case("bert", PrototypeConfig(bottleneck=16, sparsity=0.5), hidden=64, layers=1),
    "lora": Case("roberta", LORA, head="own", hidden=64, layers=1),
    "prefix": Case("distilbert", PrototypeConfig("prefix", prefix_length=16), hidden=64, layers=1),
}
FORMS = (*ALL_FORMS, "bare")


def exported(bundle, path, options):
    backbone, stored = bundle
    return export(backbone, stored, path, options)


@pytest.fixture(scope="module", params=CASES)
def bundle(request, tmp_path_factory):
    return random_bundle(tmp_path_factory.mktemp(request.param), CASES[request.param])


@pytest.fixture(scope="module")
def plain(bundle, tmp_path_factory):
    return exported(bundle, tmp_path_factory.mktemp("plain") / "fp32", ExportOptions(forms=FORMS))


@pytest.fixture(scope="module", params=HALVES)
def halved(request, bundle, tmp_path_factory):
    options = ExportOptions(forms=FORMS, quantize=request.param)
    return exported(bundle, tmp_path_factory.mktemp("halved") / request.param, options)


@pytest.fixture(scope="module")
def fp16(bundle, tmp_path_factory):
    """One that a CPU runs, of two tasks: the third is added."""
    options = ExportOptions(forms=ALL_FORMS, tasks=("value", "two"), quantize="fp16", tune=True)
    return exported(bundle, tmp_path_factory.mktemp("fp16") / "fp16", options)


def near(found, expected, precision):
    tolerance = TOLERANCES[precision]
    off = np.abs(found - expected)
    assert off.max() > 0 and (off <= tolerance.absolute + tolerance.relative * np.abs(expected)).all()


def shared_tensors(folder: Path) -> dict[int, ir.ExternalTensor]:
    """By their place in the shared file."""
    values = [value for path in folder.rglob("*.onnx") for value in ir.load(path).graph.initializers.values()]
    tensors = [value.const_value for value in values if isinstance(value.const_value, ir.ExternalTensor)]
    return {tensor.offset or 0: tensor for tensor in tensors}


@pytest.mark.parametrize("form", ALL_FORMS)
def test_every_form_is_within_the_tolerance_of_fp16(fp16, form):
    with Session.open(fp16.artifact, form=form, threads=1) as session:
        for task in fp16.manifest.tasks:
            inputs = fp16.inputs(4, 9)
            near(session.run(task, inputs), fp16.logits(task, inputs), "fp16")


def test_it_checks_itself_and_is_tuned(fp16):
    report = self_test(fp16.artifact, threads=1)
    assert report.passed and report.precision == "fp16"
    assert read_tuned(fp16.artifact) is not None


def test_a_manifest_keeps_what_was_lost(fp16):
    losses = read_artifact(fp16.artifact).manifest.losses
    measured = {(loss.task, loss.form.partition(",")[0]) for loss in losses}
    assert measured == {(task, form) for task in ("value", "two") for form in ALL_FORMS}
    assert all(loss.agreement == 1 for loss in losses)


def test_a_task_is_added_to_a_running_session(fp16):
    """Its pack is the bundle's own: masks are bits at any precision."""
    with Session.open(fp16.artifact, form="switchable", threads=1) as session:
        session.add_task(fp16.bundle.path / pack_path("five"))
        inputs = fp16.inputs(4, 9)
        near(session.run("five", inputs), fp16.logits("five", inputs), "fp16")
        assert len(session.predict("five", ["a man", "no good"])) == 2


@pytest.mark.parametrize("bundle", ["adapter", "prefix"], indirect=True)  # the evaluator cannot run RoBERTa's gathers
def test_bf16_is_within_its_tolerance_by_the_reference(bundle, tmp_path):
    """No provider of the CPU runs it: ONNX's own evaluator does, which rounds after every operator."""
    made = exported(bundle, tmp_path / "bf16", ExportOptions(tasks=("two",), quantize="bf16"))
    graph = load_graph(made.artifact / "folded/two/model.onnx", made.artifact)
    inputs = made.inputs(3, 5)
    (found,) = ReferenceEvaluator(ir.to_proto(graph)).run(["logits"], inputs)
    near(found, made.logits("two", inputs), "bf16")


def test_products_are_of_half_the_bits_and_the_interface_is_as_before(halved, plain):
    dtype = LOWERED_TYPES[halved.manifest.precision]
    for form in FORMS:
        assert halved.manifest.forms[form] == plain.manifest.forms[form]
    for path in sorted(halved.artifact.rglob("*.onnx")):
        graph = ir.load(path).graph
        products = [node for node in graph if node.op_type in ("MatMul", "Gemm")]
        assert products or path.parent.name == "apply", path
        constants = {value for value in graph.initializers.values() for use in value.uses() if use.node in products}
        assert all(value.dtype == dtype for value in constants), path


def test_the_shared_file_is_half_as_large(halved, plain):
    small = sum(tensor.nbytes for tensor in shared_tensors(halved.artifact).values())
    assert small < 0.52 * sum(tensor.nbytes for tensor in shared_tensors(plain.artifact).values())


def test_each_weight_is_stored_once_for_all_graphs(halved):
    content = (halved.artifact / "backbone.data").read_bytes()
    tensors = shared_tensors(halved.artifact)
    assert len(tensors) > 3
    assert len({content[place:][: tensor.nbytes] for place, tensor in tensors.items()}) == len(tensors)


def test_what_a_task_owns_stays_in_its_graph(halved, plain):
    for task in halved.manifest.tasks:
        assert_same_owner(halved.artifact / f"folded/{task}/model.onnx", plain.artifact / f"folded/{task}/model.onnx")


def assert_same_owner(halved: Path, plain: Path) -> None:
    """No tensor is shared that was the task's."""
    before = ir.load(plain).graph.initializers
    for name, value in ir.load(halved).graph.initializers.items():
        if isinstance(value.const_value, ir.ExternalTensor):
            assert isinstance(before[name].const_value, ir.ExternalTensor), name


def test_masks_are_folded_in_float32(bundle, plain, tmp_path):
    """The weights of a folded task are those of fp32, rounded once."""
    made = exported(bundle, tmp_path / "fp16", ExportOptions(tasks=("two",), quantize="fp16"))
    before = load_graph(plain.artifact / "folded/two/model.onnx", plain.artifact).graph.initializers
    after = load_graph(made.artifact / "folded/two/model.onnx", made.artifact).graph.initializers
    rounded = [name for name, value in after.items() if value.dtype == ir.DataType.FLOAT16]
    assert rounded
    for name in rounded:
        expected = np.clip(held(before, name), -65504, 65504).astype(np.float16)  # the mask of padding is less
        np.testing.assert_array_equal(held(after, name), expected)


def held(initializers, name):
    tensor = initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


@pytest.mark.parametrize(
    ("family", "config", "forms", "options"),
    [
        ("t5", PrototypeConfig(bottleneck=16), ("folded",), {"merge_decoders": True}),
        ("llama", PrototypeConfig("lora", rank=16), ("bank",), {}),
    ],
)
def test_tasks_answered_in_text(family, config, forms, options, tmp_path):
    """Texts of random weights end in ties, which rounding decides; the first logits do not."""
    made = make_text_artifact(tmp_path, config, family, forms, hidden=64, std=0.1, quantize="fp16", **options)
    report = self_test(made.artifact, threads=1)
    logits = [item for item in report.comparisons if item.of == "logits"]
    assert logits and all(item.passed for item in (*logits, *report.checks))
    assert all(item.agreement >= 0.5 for item in report.comparisons)
    assert len(list(made.artifact.rglob("decoder_model_merged.onnx"))) == (3 if options else 0)
    kinds = {tensor.dtype for tensor in shared_tensors(made.artifact).values() if len(tensor.shape) == 2}
    assert ir.DataType.FLOAT16 in kinds


@pytest.fixture(scope="module")
def bf16(tmp_path_factory):
    case = Case("bert", PrototypeConfig(bottleneck=8), layers=1, tasks={"two": 2})
    return make(tmp_path_factory.mktemp("bf16"), case, ExportOptions(forms=("switchable",), quantize="bf16"))


class TestWithoutAGpu:
    """Bf16 on a machine without one: written, and refused in a line where it is to run."""

    def test_nothing_is_said_of_losses(self, bf16):
        assert read_artifact(bf16.artifact).manifest.losses == ()

    @pytest.mark.parametrize("run", [self_test, tune, lambda path: Session.open(path).run("two", ["a man"])])
    def test_a_cpu_is_refused(self, bf16, run):
        with pytest.raises(ConfigurationError, match=r"computes in bf16, which provider 'cpu' cannot; .*cuda"):
            run(bf16.artifact)

    def test_rows_to_measure_on(self, bf16, tmp_path, monkeypatch):
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
        with pytest.raises(BackendError, match="--data measures --quantize bf16 on a GPU"):
            export_bundle(bf16.bundle.path, tmp_path / "out", ExportOptions(quantize="bf16", data="rows"))
        assert not list(tmp_path.iterdir())


class TestRefused:
    """In one line, with nothing written."""

    @pytest.fixture
    def small(self, tmp_path):
        return random_bundle(tmp_path, Case("bert", PrototypeConfig("head"), layers=1, tasks={"two": 2}))[1].path

    @pytest.mark.parametrize("precision", HALVES)
    def test_operators_of_one_engine(self, small, tmp_path, precision):
        options = ExportOptions(quantize=precision, operators="onnxruntime")
        with pytest.raises(ConfigurationError, match=f"--quantize {precision} .*without --operators onnxruntime"):
            export_bundle(small, tmp_path / "out", options)
        assert not (tmp_path / "out").exists()

    def test_tuning_for_a_cpu(self, small, tmp_path):
        with pytest.raises(ConfigurationError, match="--quantize bf16 needs a GPU, and --tune is for the CPU"):
            export_bundle(small, tmp_path / "out", ExportOptions(quantize="bf16", tune=True))
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(("precision", "provider"), [("fp16", "cpu"), ("bf16", "cuda")])
    def test_too_much_of_a_loss(self, small, tmp_path, monkeypatch, precision, provider):
        asked = []

        def compare(artifact, bundle, data, **others):
            asked.append(others["provider"])
            yield COMPARISON

        monkeypatch.setattr("propetl.export.parity.compare", compare)
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
        rows = write_rows(tmp_path / "rows", read_bundle(small))
        options = ExportOptions(quantize=precision, data=str(rows))
        with pytest.raises(
            CheckFailed, match=f"--quantize {precision} costs two in form folded 2.00 points of accuracy"
        ):
            export_bundle(small, tmp_path / "out", options)
        assert asked == [provider] and not (tmp_path / "out").exists()
