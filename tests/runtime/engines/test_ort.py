import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.external_data_helper import set_external_data

from propetl.errors import ArtifactError, BackendError, ConfigurationError, MissingExtraError
from propetl.runtime.artifact import read_artifact, read_manifest
from propetl.runtime.engines import PROVIDERS, EngineOptions, load_engine
from propetl.runtime.engines.ort import ORT_PROVIDERS
from tests.device_env import ROOT
from tests.runtime.tiny_artifact import ROWS, token_ids


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
            "provider 'quantum' is not known; choose one of cpu, cuda, tensorrt",
        ),
        ({"threads": 0}, ConfigurationError, "threads must be at least 1; got 0"),
        ({"memory": "tiny"}, ConfigurationError, "memory is one of fast, small; got 'tiny'"),
    ],
)
def test_options_out_of_range(options, error, message):
    with pytest.raises(error, match=message):
        EngineOptions(**options)


def test_every_provider_has_its_line():
    assert set(PROVIDERS) == set(ORT_PROVIDERS)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_there_is_an_error(artifact, graph, provider, monkeypatch):
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.raises(BackendError) as caught:
        load_engine(artifact, graph, EngineOptions(provider))
    message = str(caught.value)
    assert f"provider '{provider}' needs ONNX Runtime's {ORT_PROVIDERS[provider].name}" in message
    assert "serves: cpu;" in message
    assert "pip install 'propetl[gpu]'" in message


def test_a_provider_that_falls_back_is_an_error(artifact, graph, monkeypatch):
    """ONNX Runtime itself only warns: it says that CUDA is available, then runs on the CPU."""
    listed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    start = onnxruntime.InferenceSession

    def fall_back(content, options, providers, enable_fallback):
        assert providers == ["CUDAExecutionProvider"]
        assert enable_fallback == 0
        return start(content, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", fall_back)
    with pytest.raises(BackendError, match=r"provider 'cuda' did not start: .* but CPUExecutionProvider would run"):
        load_engine(artifact, graph, EngineOptions("cuda"))


@pytest.mark.parametrize(("provider", "extra"), [("cpu", "cpu"), ("cuda", "gpu"), ("tensorrt", "gpu")])
def test_a_missing_library_names_its_extra(artifact, graph, monkeypatch, provider, extra):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'propetl\[{extra}\]'"):
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
    with pytest.raises(ArtifactError, match=r"switchable/model\.onnx: ONNX Runtime cannot load it: ") as caught:
        load_engine(artifact, graph_of(artifact, "switchable"), EngineOptions())
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_there(own_tiny):
    (own_tiny.path / "backbone.data").unlink()
    artifact = read_manifest(own_tiny.path)
    with pytest.raises(ArtifactError, match="ONNX Runtime cannot load it"):
        load_engine(artifact, graph_of(artifact, "bank"), EngineOptions())


@pytest.mark.parametrize("outside", ["../secret.data", "ABSOLUTE", "link.data"])
def test_a_graph_cannot_read_weights_outside_the_artifact(own_tiny, tmp_path, outside):
    """The manifest's paths are checked by us, those inside a graph by ONNX Runtime."""
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
    with pytest.raises(ArtifactError, match="ONNX Runtime cannot load it"):
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
