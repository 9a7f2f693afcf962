"""The graph with an adapter file, run by ONNX Runtime alone, against our session and PyTorch."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as draw

from propetl.export.options import ExportOptions
from propetl.export.other_tools.onnx_adapter import GRAPH_FILE, WEIGHTS_FILE, adapter_tensors, write_adapter
from propetl.export.other_tools.writer import export_for_other_tools
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime import Session
from tests.export.cases import case_of
from tests.export.random_artifact import Case, Exported, make, random_bundle

TOLERANCE = 1e-5

CASES = [
    case_of("electra", "adapter"),
    case_of("electra", "lora"),
    case_of("distilbert", "prefix"),
    case_of("roberta", "ia3"),
    Case("electra", PrototypeConfig("head"), tasks={"two": 2, "three": 3}),
    Case(
        "bert",
        PrototypeConfig(bottleneck=3),
        head="own",
        layers=1,
        tasks={"ner": ("O", "B-X", "I-X"), "pos": ("a", "b")},
    ),
]


class OrtAdapters:
    """What a user of ONNX Runtime writes, with nothing of this project."""

    def __init__(self, folder) -> None:
        quiet = ort.SessionOptions()
        quiet.log_severity_level = 3  # it warns that inputs with defaults are no constants, which is the point
        quiet.intra_op_num_threads = 1
        self.folder = folder
        self.session = ort.InferenceSession(str(folder / GRAPH_FILE), quiet, providers=["CPUExecutionProvider"])

    def run(self, task: str | None, inputs: dict[str, np.ndarray]) -> np.ndarray:
        options = ort.RunOptions()
        adapter = ort.LoraAdapter()
        if task is not None:
            adapter.Load(str(self.folder / f"{task}.onnx_adapter"))
            options.add_active_adapter(adapter)
        return self.session.run(["logits"], inputs, options)[0]


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request, tmp_path_factory) -> tuple[Exported, OrtAdapters]:
    folder = tmp_path_factory.mktemp("adapter")
    exported = make(folder, request.param, ExportOptions(forms=("folded",)))
    options = ExportOptions(forms=("onnx-adapter",))
    export_for_other_tools(exported.bundle.path, folder / "adapters", options)
    return exported, OrtAdapters(folder / "adapters")


def test_an_adapter_gives_what_our_session_and_the_torch_model_give(case) -> None:
    exported, adapters = case
    with Session.open(exported.artifact, threads=1) as session:

        @settings(max_examples=8, deadline=None, database=None)
        @given(
            seed=draw.integers(0, 2**32 - 1),
            rows=draw.integers(1, 5),
            length=draw.integers(1, 20),
            task=draw.sampled_from(sorted(exported.bundle.packs)),
        )
        def agree(seed: int, rows: int, length: int, task: str) -> None:
            inputs = exported.inputs(rows, length, seed)
            found = adapters.run(task, inputs)
            for expected in (session.run(task, inputs), exported.logits(task, inputs)):
                np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)

        agree()


def test_without_an_adapter_every_logit_is_zero(case) -> None:
    exported, adapters = case
    tags = any(pack.info.kind.answers_words for pack in exported.bundle.packs.values())
    expected = np.zeros((3, 7, 1) if tags else (3, 1), np.float32)
    assert np.array_equal(adapters.run(None, exported.inputs(3, 7)), expected)


def test_the_graph_holds_no_prototype_and_no_task(case) -> None:
    """Large tensors of the graph are the backbone's, or zeros in an input's place."""
    exported, adapters = case
    model = onnx.load(adapters.folder / GRAPH_FILE)
    inputs = {value.name for value in model.graph.input}
    weights = [value for value in model.graph.initializer if value.name in inputs]
    assert {value.name for value in weights} == set(adapter_tensors(exported.model, min(exported.bundle.packs)))
    assert {name for name in inputs if name.startswith(("weight.", "head."))} == {value.name for value in weights}
    assert all(not onnx.numpy_helper.to_array(value).any() for value in weights)
    shapes = {tensor.shape for tensor in exported.model.layout.tensors if len(tensor.shape) > 1}
    backbone = {tuple(value.shape) for value in exported.model.network.parameters()}
    held = {tuple(value.dims) for value in model.graph.initializer if value.name not in inputs}
    assert not held & (shapes - backbone - {shape[::-1] for shape in backbone})


def test_one_graph_runs_the_adapters_of_another_bundle(tmp_path) -> None:
    """Another prototype of the same sizes on the same backbone: the graph holds nothing of either."""
    config = PrototypeConfig("lora", rank=2, sparsity=0.5)
    backbone, bundle = random_bundle(tmp_path, Case("bert", config, layers=1, tasks={"two": 2}))
    export_for_other_tools(bundle.path, tmp_path / "out", ExportOptions(forms=("onnx-adapter",)))
    other = ProPETLModel.from_bundle(bundle, backbone)
    generator = np.random.default_rng(1)
    tensors = adapter_tensors(other, "two")
    moved = {name: value + generator.normal(size=value.shape).astype(np.float32) for name, value in tensors.items()}
    write_adapter(tmp_path / "out" / "moved.onnx_adapter", moved)
    adapters = OrtAdapters(tmp_path / "out")
    inputs = {name: np.full((1, 4), 1, np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    assert np.abs(adapters.run("two", inputs) - adapters.run("moved", inputs)).max() > 1e-3


def test_the_shared_weights_stand_once(case) -> None:
    exported, adapters = case
    sizes = {path.name: path.stat().st_size for path in adapters.folder.iterdir() if path.is_file()}
    backbone = 4 * exported.model.backbone.info.parameters
    assert sizes[WEIGHTS_FILE] > backbone / 2
    assert all(sizes[f"{task}.onnx_adapter"] < backbone for task in exported.bundle.packs)
