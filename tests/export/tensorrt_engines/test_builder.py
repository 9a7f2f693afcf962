"""Building one graph with TensorRT for RTX, which needs no GPU for it."""

import numpy as np
import onnx_ir as ir
import pytest

from propetl.errors import BackendError
from propetl.export.tensorrt_engines import flavour as export_flavour
from propetl.export.tensorrt_engines.builder import EngineBuilder, Graph, _filled_in, _optimization_profile
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.runtime.engine_records import Profile
from propetl.runtime.engines import tensorrt_flavour
from propetl.runtime.engines.tensorrt_flavour import FLAVOURS
from propetl.runtime.manifest import TensorSignature

trt = pytest.importorskip("tensorrt_rtx")

PROFILE = Profile({"batch": (1, 2, 4), "sequence": (1, 8, 16)})
X, Y = TensorSignature("x", "int64", ("batch", "sequence")), TensorSignature("y", "float32", ("batch", "sequence", 4))


def builder(**options):
    return EngineBuilder(
        FLAVOURS["tensorrt-rtx"], TensorRTOptions(("tensorrt-rtx",), compute_capabilities=(86,), **options)
    )


def graph_of(folder, body="e = Gather(w, x) y = Relu(e)", inputs=(X,), outputs=(Y,)):
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 20]> graph (int64[batch, sequence] x) => (float[batch, sequence, 4] y)'
        f"<float[2, 4] w = {{1, 2, 3, 4, 5, 6, 7, 8}}> {{ {body} }}"
    )
    for index, node in enumerate(model.graph):
        node.name = f"node_{index}"
    return Graph("folded/rte/model.onnx at fp32", ir.to_proto(model).SerializeToString(), folder, inputs, outputs)


def build(graph, one=None, precision="fp32", progress=lambda phase, share: None):
    return (one or builder()).build(graph, precision, (PROFILE,), progress)


def test_a_rebuild_is_the_same_bytes(tmp_path):
    first, again = build(graph_of(tmp_path)), build(graph_of(tmp_path))
    assert len(first.content) > 1000 and first.seconds > 0
    assert first.content == again.content


def test_another_gpu_is_another_plan(tmp_path):
    options = TensorRTOptions(("tensorrt-rtx",), compute_capabilities=(86, 89, 120))
    several = build(graph_of(tmp_path), EngineBuilder(FLAVOURS["tensorrt-rtx"], options))
    assert several.content != build(graph_of(tmp_path)).content


def test_fp32_leaves_tf32_out_and_tf32_lets_it_in():
    one = builder()
    made = one._library.Builder(one._log)
    tf32 = one._library.BuilderFlag.TF32
    assert {precision: one._config(made, precision).get_flag(tf32) for precision in ("fp32", "fp16", "tf32")} == {
        "fp32": False,
        "fp16": False,
        "tf32": True,
    }


def test_options_reach_the_builder():
    one = builder(workspace_mib=7, optimization_level=1)
    config = one._config(one._library.Builder(one._log), "fp32")
    assert config.get_memory_pool_limit(one._library.MemoryPoolType.WORKSPACE) == 7 << 20
    assert config.builder_optimization_level == 1
    assert config.num_compute_capabilities == 1
    assert config.get_compute_capability(0) == one._library.ComputeCapability.SM86


def test_profiles_are_those_asked_for(tmp_path):
    one, graph = builder(), graph_of(tmp_path)
    made, network = one._parse(graph)
    profile = _optimization_profile(made, network, PROFILE, graph)
    assert [tuple(shape) for shape in profile.get_shape("x")] == [(1, 1), (2, 8), (4, 16)]


def test_a_graph_that_cannot_be_read_is_named_by_node_operator_and_reason(tmp_path):
    body = 'u = Cast<to = 13>(x) s = BitShift<direction = "RIGHT">(u, u) i = Cast<to = 7>(s) y = Gather(w, i)'
    with pytest.raises(BackendError) as caught:
        builder().check(graph_of(tmp_path, body))
    line = str(caught.value)
    assert line.startswith("folded/rte/model.onnx at fp32: tensorrt-rtx 1.")
    assert "node 'node_1' (BitShift): " in line and line.rpartition(": ")[2].strip()


def test_a_file_that_is_no_graph(tmp_path):
    graph = Graph("g.onnx", b"nonsense", tmp_path, (X,), (Y,))
    with pytest.raises(BackendError, match=r"g\.onnx: tensorrt-rtx .* cannot read it: "):
        builder().check(graph)


@pytest.mark.parametrize(
    "stated",
    [
        {"inputs": (TensorSignature("x", "int32", ("batch", "sequence")),)},
        {"inputs": (TensorSignature("x", "int64", ("batch", 7)),)},
        {"inputs": (X, TensorSignature("task_id", "int64", ("batch",)))},
        {"outputs": (TensorSignature("logits", "float32", ("batch", "sequence", 4)),)},
        {"outputs": (TensorSignature("y", "float32", ("batch", "sequence", 3)),)},
    ],
)
def test_inputs_and_outputs_are_those_stated(tmp_path, stated):
    with pytest.raises(BackendError, match="became others in the network"):
        builder().check(graph_of(tmp_path, **stated))


def test_an_output_size_that_the_parser_leaves_open_is_the_one_stated():
    """It does not follow all arithmetic of shapes, as of a decoder's cache; what it does know has to agree."""
    stated = (TensorSignature("cache", "float32", ("batch", 2, "present", 12)),)
    for found, filled in (((-1, -1, -1, 12), (-1, 2, -1, 12)), ((-1, 3, -1, 12), (-1, 3, -1, 12)), ((-1, 2), (-1, 2))):
        assert _filled_in({("cache", "float32", found)}, stated) == {("cache", "float32", filled)}


def test_a_build_that_fails_ends_with_the_builders_words(tmp_path):
    outside = Profile({"batch": (4, 2, 1), "sequence": (1, 1, 1)})
    with pytest.raises(BackendError, match=r"folded/rte/model\.onnx at fp32: tensorrt-rtx cannot build it: .*rofile"):
        builder().build(graph_of(tmp_path), "fp32", (outside,), lambda phase, share: None)


def test_progress_rises_to_the_end(tmp_path):
    told = []
    build(graph_of(tmp_path), progress=lambda phase, share: told.append((phase, share)))
    shares = [share for _, share in told]
    assert told[0][0] == "Building engine" and len(told) > 5
    assert shares == sorted(shares) and shares[-1] > 0.5
    assert np.all(np.array(shares) <= 1)


def test_an_interrupt_ends_the_build(tmp_path):
    def interrupt(phase, share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(graph_of(tmp_path), progress=interrupt)
    assert build(graph_of(tmp_path)).content  # the library goes on working


class TensorRT10:
    """TensorRT itself cannot be installed everywhere; TensorRT for RTX has its interface, and stands for it here."""

    __version__ = "10.9.0.34"

    def __getattr__(self, name):
        return getattr(trt, name)


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops in TensorRT-RTX:DeprecationWarning")
def test_modes_of_tensorrt_reach_its_builder(tmp_path, monkeypatch):
    monkeypatch.setattr(export_flavour, "gpu_here", lambda: 87)
    monkeypatch.setattr(tensorrt_flavour, "import_module", {"tensorrt": TensorRT10()}.get)
    cache = tmp_path / "times.bin"
    options = TensorRTOptions(("tensorrt",), timing_cache=cache, hardware_compatible=True, version_compatible=True)
    one = EngineBuilder(FLAVOURS["tensorrt"], options)
    assert (one.version, one.compute_capabilities) == ("10.9.0.34", (87,))
    config = one._config(one._library.Builder(one._log), "fp32")
    assert config.get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    assert config.num_compute_capabilities == 0  # TensorRT takes the GPU that it finds
    one._keep_timing_cache(config)
    kept = cache.read_bytes()
    assert kept
    one._config(one._library.Builder(one._log), "fp32")  # takes what was kept
