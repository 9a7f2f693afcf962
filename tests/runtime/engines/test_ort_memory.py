"""What sessions of one process share, and what they let go of."""

from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions, load_engine, ort_memory
from tests.runtime.tiny_artifact import ROWS
from tests.runtime.tiny_tokenizer import token_ids


@pytest.fixture
def watched(monkeypatch):
    """Options of every session that is made, and the sessions."""
    start, made = onnxruntime.InferenceSession, []

    def starting(content, options, **others):
        made.append((options, start(content, options, **others)))
        return made[-1][1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", starting)
    return made


def load(path, memory="fast", hashing=False):
    artifact = read_artifact(path)
    artifact = type(artifact)(artifact.path, artifact.manifest, hashing)
    graph = artifact.manifest.forms["folded"].graphs["mood"]
    return load_engine(artifact, graph, EngineOptions(memory=memory))


def entry(options, key):
    try:
        return options.get_session_config_entry(key)
    except RuntimeError:  # it is not set
        return None


@pytest.mark.parametrize(("memory", "shared"), [("fast", "1"), ("small", None)])
def test_fast_sessions_take_activations_from_one_arena(tiny, watched, memory, shared):
    for _ in range(2):  # registering twice would be refused
        load(tiny.path, memory)
    assert [entry(options, "session.use_env_allocators") for options, _ in watched] == [shared, shared]


def test_an_arena_that_somebody_else_registered_will_do(monkeypatch):
    def refused(memory, arena):
        raise RuntimeError("an allocator is registered already")

    class Options(dict[str, str]):
        add_session_config_entry = dict.__setitem__

    runtime = SimpleNamespace(
        OrtMemoryInfo=lambda *arguments: arguments,
        OrtArenaCfg=lambda *arguments: arguments,
        OrtAllocatorType=onnxruntime.OrtAllocatorType,
        OrtMemType=onnxruntime.OrtMemType,
        create_and_register_allocator=refused,
    )
    monkeypatch.setattr(ort_memory, "_shared", [])
    chosen = Options()
    ort_memory.share_activations(runtime, chosen)
    assert chosen == {"session.use_env_allocators": "1"}


def test_the_bytes_of_a_graph_are_not_kept_and_not_missed(tiny, watched):
    engine = load(tiny.path)
    assert watched[0][1]._model_bytes is None
    logits = engine.run(token_ids(ROWS["mood"]), {})
    np.testing.assert_allclose(logits, tiny.expected("mood", ROWS["mood"]), atol=1e-5)


def test_another_c_library_has_no_scraps_to_give_back(monkeypatch):
    monkeypatch.setattr(ort_memory.ctypes, "CDLL", lambda name: SimpleNamespace())
    ort_memory.give_back_scraps()


def test_idle_threads_spin_no_longer_than_a_millisecond(tiny, watched):
    load(tiny.path)
    assert entry(watched[0][0], "session.intra_op.spin_duration_us") == "1000"


@pytest.mark.parametrize(("cores", "hashing", "together"), [(2, False, "1"), (2, True, None), (8, True, "1")])
def test_threads_share_the_packing_of_weights_but_not_with_hashing_on_few_cores(
    tiny, watched, monkeypatch, cores, hashing, together
):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    load(tiny.path, hashing=hashing)
    assert entry(watched[0][0], "session.prepack.enable_parallel") == together
