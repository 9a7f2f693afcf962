"""Traces that are kept: the same artifact, byte for byte, with this model's weights, and nothing traced twice."""

import dataclasses
import os

import pytest
import torch

from propetl.export.kept_traces import _MOST, VARIABLE, KeptTraces
from propetl.export.options import ExportOptions
from propetl.export.trace import _found
from propetl.export.writer import export_bundle
from propetl.prototypes.spec import PrototypeConfig
from tests.export.agreement import assert_every_form_is_the_torch_model
from tests.export.random_artifact import ALL_FORMS, Case, export, random_bundle

CASE = Case("bert", PrototypeConfig(bottleneck=3, sparsity=0.4, masks="hybrid"), layers=1, tasks={"two": 2, "five": 5})


@pytest.fixture
def traced(monkeypatch):
    """Programs that the tracer was asked for, in turn."""
    import propetl.export.trace as module

    asked, tracer = [], module._exported
    monkeypatch.setattr(module, "_exported", lambda program, *more: asked.append(program) or tracer(program, *more))
    return asked


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def files_of(artifact):
    return {
        str(path.relative_to(artifact)): path.read_bytes() for path in sorted(artifact.rglob("*")) if path.is_file()
    }


def test_a_second_export_traces_nothing(tmp_path, cache, traced):
    """It is the same byte for byte; a bundle with other weights and tasks is what PyTorch makes of these."""
    _, bundle = random_bundle(tmp_path, CASE)
    for name in ("first", "second"):
        export_bundle(bundle.path, tmp_path / name, ExportOptions(ALL_FORMS))
    assert len(traced) == 2 == len(list(cache.iterdir()))
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")

    tasks = {"three": 3, "value": 0, "four": 4}
    other = random_bundle(tmp_path / "other", dataclasses.replace(CASE, tasks=tasks), {"weight": 0.9})
    made = export(*other, tmp_path / "third", ExportOptions(ALL_FORMS))
    assert made.bundle.info.backbone.fingerprint != bundle.info.backbone.fingerprint
    assert_every_form_is_the_torch_model(made, drawn=4)
    export_bundle(bundle.path, tmp_path / "fourth", ExportOptions(("folded",), quantize="int8"))
    assert len(traced) == 2
    export_bundle(bundle.path, tmp_path / "fifth", ExportOptions(traces=str(tmp_path / "another")))
    assert len(traced) == 3 and len(list((tmp_path / "another").iterdir())) == 1


def test_nothing_is_kept_unless_a_folder_is_named(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    assert KeptTraces.of(None) is None


@pytest.mark.parametrize("content", [b"no graph", b""])
def test_a_file_that_is_no_graph_is_traced_again(tmp_path, content):
    kept = KeptTraces(tmp_path)
    kept.put("key", content)
    assert kept.get("key") == content and _found(kept, "key", {"weight": torch.zeros(2)}) is None


@pytest.mark.parametrize("damage", [b"", b"0" * 64, None])
def test_a_damaged_file_is_not_there(tmp_path, damage):
    kept = KeptTraces(tmp_path)
    kept.put("key", b"graph")
    assert kept.get("key") == b"graph" and kept.get("other") is None
    path = tmp_path / "key.trace"
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    assert kept.get("key") is None


def test_what_was_not_used_for_longest_goes(tmp_path):
    kept = KeptTraces(tmp_path)
    for number in range(_MOST):
        kept.put(f"{number}", b"graph")
        os.utime(tmp_path / f"{number}.trace", (number, number))
    kept.get("0")
    kept.put("new", b"graph")
    assert kept.get("0") and kept.get("new") and kept.get("1") is None and len(list(tmp_path.iterdir())) == _MOST


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    kept = KeptTraces(tmp_path / "file" / "traces")
    kept.put("key", b"graph")
    assert kept.get("key") is None
