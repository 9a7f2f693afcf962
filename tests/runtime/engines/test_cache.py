from pathlib import Path

import pytest

from propetl.errors import ConfigurationError
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.engines.cache import cache_folder, cache_root
from tests.runtime.tiny_artifact import write_tiny_artifact


@pytest.fixture
def artifact(tiny):
    return read_artifact(tiny.path)


def folded(artifact, task):
    return artifact.manifest.forms["folded"].graphs[task]


def test_the_user_may_name_the_folder_and_else_has_a_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_root(EngineOptions("tensorrt")) == tmp_path / "cache" / "propetl" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert cache_root(EngineOptions("tensorrt")) == tmp_path / "home" / ".cache" / "propetl" / "engines"
    assert cache_root(EngineOptions("tensorrt", engine_cache=tmp_path / "mine")) == tmp_path / "mine"


def test_graphs_with_the_same_nodes_and_other_weights_do_not_share_engines(artifact, tmp_path):
    """Else the engine of one folded task answers for another."""
    options = EngineOptions("tensorrt", engine_cache=tmp_path)
    folders = {cache_folder(artifact, graph, options) for graph in artifact.manifest.forms["folded"].graphs.values()}
    assert len(folders) == len(artifact.manifest.forms["folded"].graphs)
    assert all(folder.is_dir() and folder.parent == tmp_path for folder in folders)


def test_another_backbone_provider_or_batch_does_not_share_engines(artifact, tmp_path):
    graph = folded(artifact, "mood")
    other = read_artifact(write_tiny_artifact(tmp_path / "other", seed=1).path)
    chosen = {
        cache_folder(artifact, graph, EngineOptions("tensorrt", engine_cache=tmp_path)),
        cache_folder(artifact, graph, EngineOptions("tensorrt", engine_cache=tmp_path, batch_size=8)),
        cache_folder(artifact, graph, EngineOptions("nv-tensorrt-rtx", engine_cache=tmp_path)),
        cache_folder(other, folded(other, "mood"), EngineOptions("tensorrt", engine_cache=tmp_path)),
    }
    assert len(chosen) == 4


def test_the_next_start_finds_the_same_folder(artifact, tmp_path):
    options = EngineOptions("tensorrt", engine_cache=tmp_path)
    first = cache_folder(artifact, folded(artifact, "mood"), options)
    assert cache_folder(read_artifact(artifact.path), folded(artifact, "mood"), options) == first


def test_a_folder_that_cannot_be_made(artifact, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be made \(.*\); choose another folder with --engine-cache"):
        cache_folder(artifact, folded(artifact, "mood"), EngineOptions("tensorrt", engine_cache=tmp_path / "file"))
