import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.external_data_helper import set_external_data

from propetl.errors import ArtifactError, BackendError, ConfigurationError, MissingExtraError
from propetl.installation import requirement_of
from propetl.runtime.artifact import read_artifact, read_manifest
from propetl.runtime.engines import EngineOptions, load_engine, ort
from propetl.runtime.engines.providers import ort_provider
from tests.device_env import ROOT
from tests.runtime.tiny_artifact import ROWS
from tests.runtime.tiny_tokenizer import token_ids


def graph_of(artifact, form):
    graph = artifact.manifest.forms[form].graph
    assert graph is not None
    return graph


@pytest.fixture
def artifact(tiny):
    return read_artifact(tiny.path)


@pytest.fixture
def graph(artifact):
    return graph_of(artifact, "switchable")


@pytest.mark.parametrize("memory", ["fast", "small"])
@pytest.mark.parametrize("threads", [None, 1, 2])
def test_logits_with_every_option(tiny, artifact, graph, memory, threads):
    engine = load_engine(artifact, graph, EngineOptions("cpu", threads, memory))
    prepared = engine.prepare(tiny.packs["mood"].tensors())
    for _ in range(3):
        logits = engine.run(token_ids(ROWS["mood"]), prepared)
        np.testing.assert_allclose(logits, tiny.expected("mood", ROWS["mood"]), atol=1e-5)
    assert logits.dtype == np.float32


def test_the_graph_says_what_the_manifest_says(artifact):
    for form in artifact.forms:
        for graph in artifact.manifest.forms[form].all_graphs().values():
            engine = load_engine(artifact, graph, EngineOptions())
            assert set(engine.inputs()) == set(graph.inputs)
            assert set(engine.outputs()) == set(graph.outputs)


def test_what_makes_a_graph_slower_on_a_cpu_is_switched_off(artifact, graph, monkeypatch):
    start, asked = onnxruntime.InferenceSession, []

    def watched(*arguments, disabled_optimizers, **options):
        asked.append(disabled_optimizers)
        return start(*arguments, disabled_optimizers=disabled_optimizers, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    load_engine(artifact, graph, EngineOptions())
    assert asked == [{"SkipLayerNormFusion"}]


def test_every_answer_is_memory_of_its_own(tiny, artifact, graph):
    engine = load_engine(artifact, graph, EngineOptions())
    prepared = engine.prepare(tiny.packs["mood"].tensors())
    first = engine.run(token_ids(["good"]), prepared)
    kept = first.copy()
    engine.run(token_ids(["bad"]), prepared)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"provider": "quantum"},
            BackendError,
            "provider 'quantum' is not known; choose one of cpu, cuda, tensorrt, nv-tensorrt-rtx",
        ),
        ({"threads": 0}, ConfigurationError, "threads must be a whole number from 1 to 1024; got 0"),
        ({"memory": "tiny"}, ConfigurationError, "memory is one of fast, small; got 'tiny'"),
        ({"device": -1}, ConfigurationError, "device, .* from 0 to 2147483647; got -1"),
        ({"batch_size": 0}, ConfigurationError, "batch_size must be a whole number from 1 to 2147483647; got 0"),
    ],
)
def test_options_out_of_range(options, error, message):
    with pytest.raises(error, match=message):
        EngineOptions(**options)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_there_is_an_error(artifact, graph, provider, monkeypatch):
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.raises(BackendError) as caught:
        load_engine(artifact, graph, EngineOptions(provider))
    message = str(caught.value)
    assert f"provider '{provider}' needs ONNX Runtime's {ort_provider(provider).name}" in message
    assert "serves: cpu;" in message
    assert f"pip install {requirement_of('gpu')}" in message


def test_a_provider_that_falls_back_is_an_error(artifact, graph, monkeypatch):
    """ONNX Runtime itself only warns: it says that CUDA is available, then runs on the CPU."""
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    start = onnxruntime.InferenceSession

    def fall_back(content, options, providers, enable_fallback, disabled_optimizers):
        assert providers == [("CUDAExecutionProvider", {"device_id": "0", "use_tf32": "0"})]
        assert enable_fallback == 0
        return start(content, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    with pytest.raises(BackendError, match=r"provider 'cuda' did not start: .* CPUExecutionProvider would run"):
        load_engine(artifact, graph, EngineOptions("cuda"))


class OnGpu:
    """Stands in for ONNX Runtime with a GPU: runs on the CPU, and says of every node what ``placed`` says."""

    def __init__(self, monkeypatch, placed, providers):
        self.asked = []
        start = onnxruntime.InferenceSession

        def on_cpu(content, options, providers, enable_fallback, disabled_optimizers):
            assert not disabled_optimizers  # what is slower on a CPU is not on a GPU
            self.asked.append(providers)
            self.options = options
            session = start(content, options, providers=["CPUExecutionProvider"])
            monkeypatch.setattr(session, "get_providers", lambda: [name for name, _ in providers])
            nodes = [SimpleNamespace(ep_name=name, get_nodes=lambda kind=kind: [kind]) for name, kind in placed]
            monkeypatch.setattr(session, "get_provider_graph_assignment_info", lambda: nodes)
            return session

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("noise"), raising=False)
        monkeypatch.setattr(onnxruntime, "InferenceSession", on_cpu)


def kind(name):
    return SimpleNamespace(op_type=name)


def test_tensorrt_is_given_its_options_and_a_helper(artifact, graph, monkeypatch, tmp_path, capsys):
    placed = [("TensorrtExecutionProvider", kind("MatMul")), ("CUDAExecutionProvider", kind("Cast"))]
    gpu = OnGpu(monkeypatch, placed, ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"])
    load_engine(artifact, graph, EngineOptions("tensorrt", device=1, engine_cache=tmp_path))
    ((first, second),) = gpu.asked
    assert first[0] == "TensorrtExecutionProvider" and first[1]["device_id"] == "1"
    assert Path(first[1]["trt_engine_cache_path"]).parent == tmp_path
    assert second == ("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"})
    assert gpu.options.get_session_config_entry("session.record_ep_graph_assignment_info") == "1"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [None, ImportError("no module"), OSError("libcudart.so.13: cannot open")])
def test_tensorrt_as_pip_installs_it_is_loaded_before_the_provider_looks_for_it(artifact, graph, monkeypatch, error):
    """No search path names it; where it is not there, or not whole, the provider itself says what it misses."""
    placed = [("TensorrtExecutionProvider", kind("MatMul"))]
    gpu = OnGpu(monkeypatch, placed, ["TensorrtExecutionProvider", "CUDAExecutionProvider"])
    asked = []

    def imported(name):
        asked.append((name, len(gpu.asked)))
        if error is not None:
            raise error

    monkeypatch.setattr(ort, "import_module", imported)
    load_engine(artifact, graph, EngineOptions("tensorrt"))
    assert asked == [("tensorrt_libs", 0)]


def test_an_operator_that_falls_back_to_the_cpu_is_an_error(artifact, graph, monkeypatch):
    placed = [("CUDAExecutionProvider", kind("MatMul")), ("CPUExecutionProvider", kind("Softmax"))]
    OnGpu(monkeypatch, placed, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(BackendError, match=r"does not run all of switchable/model.onnx: Softmax \(1\) would fall back"):
        load_engine(artifact, graph, EngineOptions("cuda"))


def test_a_provider_without_its_libraries_did_not_start_and_the_graph_is_not_blamed(artifact, graph, monkeypatch):
    def no_libraries(content, options, providers, enable_fallback, disabled_optimizers):
        raise RuntimeError("Please install TensorRT libraries\nand more")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", no_libraries)
    with pytest.raises(BackendError, match=r"provider 'tensorrt' did not start: .*Please install TensorRT libraries;"):
        load_engine(artifact, graph, EngineOptions("tensorrt"))


def test_task_tensors_go_to_the_device_once_and_token_ids_with_each_call(tiny, artifact, graph, monkeypatch):
    OnGpu(monkeypatch, [("CUDAExecutionProvider", kind("MatMul"))], ["CUDAExecutionProvider"])
    made = []
    real = onnxruntime.OrtValue.ortvalue_from_numpy

    def recorded(array, device, number):
        made.append((device, number))
        return real(array)

    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", recorded)
    engine = load_engine(artifact, graph, EngineOptions("cuda", device=2))
    tensors = tiny.packs["mood"].tensors()
    prepared = engine.prepare(tensors)
    assert made == [("cuda", 2)] * len(tensors)
    for _ in range(2):
        made.clear()
        logits = engine.run(token_ids(ROWS["mood"]), prepared)
        assert made == [("cpu", 0)] * 3
    np.testing.assert_allclose(logits, tiny.expected("mood", ROWS["mood"]), atol=1e-5)


def test_what_is_kept_for_the_next_call_stays_on_the_device(tiny, artifact, graph, monkeypatch):
    """Such as a cache of keys and values: it is bound where it is made, and fed again as it is."""
    OnGpu(monkeypatch, [("CUDAExecutionProvider", kind("MatMul"))], ["CUDAExecutionProvider"])
    bound, real = [], onnxruntime.IOBinding.bind_output

    def recorded(binding, name, device, number):
        bound.append((name, device, number))
        real(binding, name, "cpu", 0)

    monkeypatch.setattr(onnxruntime.IOBinding, "bind_output", recorded)
    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", on_the_cpu(onnxruntime))
    engine = load_engine(artifact, graph, EngineOptions("cuda", device=2))
    prepared = engine.prepare(tiny.packs["mood"].tensors())
    kept = engine.call(token_ids(ROWS["mood"]), prepared)
    assert bound == [("logits", "cuda", 2)]
    np.testing.assert_allclose(engine.array(kept["logits"]), tiny.expected("mood", ROWS["mood"]), atol=1e-5)


def on_the_cpu(runtime):
    """OrtValues of any device in the CPU's memory, as there is no other here."""
    real = runtime.OrtValue.ortvalue_from_numpy
    return lambda array, device, number: real(array)


class Plugin:
    """Stands in for the package of a provider that is registered at run time."""

    def __init__(self, monkeypatch, devices=1):
        self.registered = []
        found = [SimpleNamespace(ep_name="rtx", number=number) for number in range(devices)]
        other = SimpleNamespace(ep_name="CPUExecutionProvider")
        package = SimpleNamespace(get_library_path=lambda: "librtx.so", get_ep_name=lambda: "rtx")
        monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", package)
        monkeypatch.setattr(ort, "_plugin_devices", {})
        monkeypatch.setattr(onnxruntime, "register_execution_provider_library", self._register)
        monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: [other, *found])

    def _register(self, name, path):
        self.registered.append((name, path))


def test_a_plugin_is_registered_once_and_added_for_the_device(artifact, graph, monkeypatch, tmp_path):
    plugin = Plugin(monkeypatch, devices=2)
    added = []

    def add(self, devices, options):
        added.append((devices[0].number, options))

    name = "NvTensorRTRTXExecutionProvider"
    OnGpu(monkeypatch, [(name, kind("MatMul"))], [])
    monkeypatch.setattr(onnxruntime.SessionOptions, "add_provider_for_devices", add)
    for _ in range(2):
        with pytest.raises(BackendError, match="did not start"):  # the double runs on the CPU
            load_engine(artifact, graph, EngineOptions("nv-tensorrt-rtx", device=1, engine_cache=tmp_path))
    assert plugin.registered == [(name, "librtx.so")]
    assert [number for number, _ in added] == [1, 1]
    assert Path(added[0][1]["nv_runtime_cache_path"]).parent == tmp_path


def test_a_device_that_is_not_there(artifact, graph, monkeypatch):
    Plugin(monkeypatch, devices=1)
    with pytest.raises(BackendError, match=r"has 1 devices here, and --device 3 counts from 0"):
        load_engine(artifact, graph, EngineOptions("nv-tensorrt-rtx", device=3))


def test_a_plugin_that_cannot_be_loaded(artifact, graph, monkeypatch):
    Plugin(monkeypatch)

    def broken(name, path):
        raise RuntimeError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", broken)
    with pytest.raises(BackendError, match=r"provider 'nv-tensorrt-rtx' did not start: .*libcuda.so.1: cannot open"):
        load_engine(artifact, graph, EngineOptions("nv-tensorrt-rtx"))


def test_a_missing_plugin_names_its_extra(artifact, graph, monkeypatch):
    monkeypatch.setattr(ort, "_plugin_devices", {})
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[rtx-ep\]'"):
        load_engine(artifact, graph, EngineOptions("nv-tensorrt-rtx"))


@pytest.mark.parametrize(("provider", "extra"), [("cpu", "cpu"), ("cuda", "gpu"), ("tensorrt", "gpu")])
def test_a_missing_library_names_its_extra(artifact, graph, monkeypatch, provider, extra):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=rf"pip install .*\[{extra}\]'"):
        load_engine(artifact, graph, EngineOptions(provider))


def test_the_library_is_imported_when_a_graph_is_loaded_and_not_before():
    code = (
        "import sys, propetl.runtime.session, propetl.runtime.selftest, propetl.runtime.jsonl\n"
        "import propetl.runtime.engines.ort, propetl.cli.predict, propetl.cli.validate\n"
        "heavy = {'onnxruntime', 'torch', 'transformers', 'onnx', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_a_graph_that_cannot_be_loaded(own_tiny, content):
    whole = (own_tiny.path / "switchable/model.onnx").read_bytes()
    own_tiny.rewrite("switchable/model.onnx", whole[: len(whole) // 2] if content is None else content)
    artifact = read_artifact(own_tiny.path)
    refused = r"switchable/model\.onnx: (ONNX Runtime cannot load it: |not a readable ONNX graph)"
    with pytest.raises(ArtifactError, match=refused) as caught:
        load_engine(artifact, graph_of(artifact, "switchable"), EngineOptions())
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_there(own_tiny):
    (own_tiny.path / "backbone.data").unlink()
    artifact = read_manifest(own_tiny.path)
    with pytest.raises(ArtifactError, match="ONNX Runtime cannot load it"):
        load_engine(artifact, graph_of(artifact, "bank"), EngineOptions())


@pytest.mark.parametrize("outside", ["../secret.data", "ABSOLUTE", "link.data"])
def test_a_graph_cannot_read_weights_outside_the_artifact(own_tiny, tmp_path, outside):
    """Nor from any other file beside ``backbone.data``."""
    secret = tmp_path / "secret.data"
    secret.write_bytes((own_tiny.path / "backbone.data").read_bytes())
    (own_tiny.path / "link.data").symlink_to(secret)
    model = onnx.load(own_tiny.path / "switchable/model.onnx", load_external_data=False)
    embedding = next(item for item in model.graph.initializer if item.name == "embedding")
    embedding.raw_data = b""
    location = str(secret) if outside == "ABSOLUTE" else outside
    set_external_data(embedding, location, 0, own_tiny.model.embedding.nbytes)
    embedding.ClearField("raw_data")
    own_tiny.rewrite("switchable/model.onnx", model.SerializeToString())
    artifact = read_artifact(own_tiny.path)
    with pytest.raises(ArtifactError, match=r"takes weights from .*, and only 'backbone\.data' is for graphs"):
        load_engine(artifact, graph_of(artifact, "switchable"), EngineOptions())


def test_inputs_that_the_engine_refuses(tiny, artifact, graph):
    engine = load_engine(artifact, graph, EngineOptions())
    feeds = token_ids(["good"])
    with pytest.raises(BackendError, match=r"switchable/model\.onnx: ONNX Runtime refused the inputs: ") as caught:
        engine.run(feeds | {"input_ids": feeds["input_ids"] + 1000}, engine.prepare(tiny.packs["mood"].tensors()))
    assert "\n" not in str(caught.value)
    with pytest.raises(BackendError, match="refused the inputs"):
        engine.run(feeds, {})


def test_the_folder_may_be_named_relative_to_the_working_directory(tiny, monkeypatch):
    monkeypatch.chdir(tiny.path.parent)
    artifact = read_artifact("artifact")
    engine = load_engine(artifact, artifact.manifest.forms["folded"].graphs["mood"], EngineOptions())
    np.testing.assert_allclose(engine.run(token_ids(["good"]), {}), tiny.expected("mood", ["good"]), atol=1e-5)
