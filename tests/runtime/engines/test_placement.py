from dataclasses import replace
from types import SimpleNamespace

import onnxruntime
import pytest

from propetl.errors import BackendError
from propetl.runtime.engines.ort_options import CPU_PROVIDER
from propetl.runtime.engines.placement import RECORD_PLACEMENT, check_placement, placement_of
from propetl.runtime.engines.provider import OrtProvider
from propetl.runtime.engines.providers import PROVIDERS, ort_provider

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
SHAPES = ((CPU_PROVIDER, "Shape"), (CPU_PROVIDER, "Gather"), (CPU_PROVIDER, "Concat"))


def check(provider, placement):
    check_placement(provider, ort_provider(provider), placement, "bank/model.onnx")


def test_shapes_may_be_counted_on_the_cpu():
    check("cuda", (*SHAPES, (CUDA, "MatMul"), (CUDA, "Softmax")))


@pytest.mark.parametrize(
    "operator", ["MatMul", "Softmax", "LayerNormalization", "MatMulInteger", "SkipLayerNormalization"]
)
def test_a_computing_operator_on_the_cpu_is_an_error(operator):
    stray = (CPU_PROVIDER, operator)
    with pytest.raises(BackendError) as caught:
        check("cuda", (*SHAPES, (CUDA, "MatMul"), stray, stray))
    message = str(caught.value)
    assert message.startswith("provider 'cuda' does not run all of bank/model.onnx: ")
    assert f"{operator} (2) would fall back to the CPU" in message
    assert "Gather" not in message


def test_another_provider_of_the_gpu_may_help_but_not_do_it_all():
    check("tensorrt", ((TENSORRT, "MatMul"), (CUDA, "Cast")))
    with pytest.raises(BackendError, match=r"runs nothing of bank/model.onnx: CUDAExecutionProvider \(2\) would"):
        check("tensorrt", ((CUDA, "Cast"), (CUDA, "MatMul")))


def test_a_session_that_only_counts_shapes_on_the_cpu_runs_nothing_on_the_gpu():
    with pytest.raises(BackendError, match="runs nothing"):
        check("cuda", SHAPES)


@pytest.mark.parametrize("provider", [name for name, one in PROVIDERS.items() if isinstance(one, OrtProvider)])
def test_every_provider_but_the_cpu_is_held_to_what_it_was_asked_for(provider):
    stray = ((ort_provider(provider).name, "Softmax"), (CPU_PROVIDER, "MatMul"))
    if ort_provider(provider).name == CPU_PROVIDER:
        check(provider, stray)
        return
    with pytest.raises(BackendError, match=r"MatMul \(1\) would fall back to the CPU"):
        check(provider, stray)


def test_a_provider_that_computes_in_the_cpus_memory_is_held_to_it_too():
    """As a library of its own for CPUs would be: where its tensors are says nothing of who computes."""
    other = replace(ort_provider("cpu"), name="OtherExecutionProvider", left_to_cpu=frozenset({"Shape"}))
    check_placement("other", other, ((CPU_PROVIDER, "Shape"), ("OtherExecutionProvider", "MatMul")), "model.onnx")
    with pytest.raises(BackendError, match=r"MatMul \(1\) would fall back to the CPU"):
        check_placement("other", other, ((CPU_PROVIDER, "MatMul"),), "model.onnx")


def test_the_cpu_may_do_everything():
    check("cpu", ((CPU_PROVIDER, "MatMul"),))


def test_nodes_are_listed_with_their_provider():
    node = SimpleNamespace(op_type="MatMul")
    part = SimpleNamespace(ep_name=CUDA, get_nodes=lambda: [node, node])
    session = SimpleNamespace(get_provider_graph_assignment_info=lambda: [part])
    assert placement_of(session) == ((CUDA, "MatMul"), (CUDA, "MatMul"))


def test_onnx_runtime_tells_where_nodes_run(tiny):
    """The real thing: what the check relies on is recorded, and only if it is asked for."""
    graph = (tiny.path / "switchable/model.onnx").read_bytes()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(tiny.path))
    options.add_session_config_entry(RECORD_PLACEMENT, "1")
    placement = placement_of(onnxruntime.InferenceSession(graph, options, providers=[CPU_PROVIDER]))
    assert (CPU_PROVIDER, "MatMul") in placement
    with pytest.raises(BackendError, match="MatMul"):
        check("cuda", placement)
