"""Traces that are kept: the same artifact, byte for byte, with this model's weights, and nothing traced twice."""

import dataclasses
import os
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper

from propetl.export.golden import text_inputs_of
from propetl.export.kept_traces import _MOST, SUFFIX, VARIABLE, KeptTraces
from propetl.export.options import ExportOptions
from propetl.export.program import Program
from propetl.export.skeleton import skeleton_of
from propetl.export.trace import _found, trace
from propetl.export.writer import export_bundle
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.manifest import TensorSignature
from propetl.runtime.signatures import task_tensors
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


WEIGHTS = {"weight": torch.ones(2, 3)}


def graph(name="text", kind=onnx.TensorProto.FLOAT, output="logits", weight=(2, 3), constant=None):
    """``text + weight``, and a constant beside it."""
    inputs = [
        helper.make_tensor_value_info(name, kind, [2, 3]),
        helper.make_tensor_value_info("weight", onnx.TensorProto.FLOAT, weight),
    ]
    add = helper.make_node("Add", [name, "weight"], [output])
    outputs = [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [2, 3])]
    constants = [] if constant is None else [constant]
    made = helper.make_graph([add], "graph", inputs, outputs, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def outside():
    tensor = onnx.TensorProto(name="constant", data_type=onnx.TensorProto.FLOAT, dims=[1], data_location=1)
    tensor.external_data.add(key="location", value="/etc/hostname")
    return tensor


LONG = helper.make_tensor("constant", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
SCALAR = helper.make_tensor("constant", onnx.TensorProto.FLOAT, [], [1.0])
INPUTS = (TensorSignature("text", "float32", (2, 3)),)


@pytest.mark.parametrize(
    "content",
    [
        b"no graph",
        b"",
        graph()[:-20],
        graph(name="words"),
        graph(kind=onnx.TensorProto.INT64),
        graph(output="states"),
        graph(weight=(2, 4)),
        graph(constant=LONG),
        graph(constant=outside()),
    ],
    ids=["text", "empty", "truncated", "input", "dtype", "output", "weight", "constant", "outside"],
)
def test_a_file_that_is_another_graph_is_traced_again(tmp_path, content):
    """Whoever wrote it, and however right its hash is."""
    kept = KeptTraces(tmp_path)
    kept.put("key", content)
    assert kept.get("key") == content and _found(kept, "key", WEIGHTS, INPUTS, ("logits",)) is None


@pytest.mark.parametrize("constant", [None, SCALAR])
def test_a_graph_with_the_program_s_names_is_found(tmp_path, constant):
    kept = KeptTraces(tmp_path)
    kept.put("key", graph(constant=constant))
    assert _found(kept, "key", WEIGHTS, INPUTS, ("logits",)) is not None


def test_a_tensor_without_a_name_is_not_kept():
    """Two values may be a bias of the first model's."""
    model = ir.from_proto(onnx.ModelProto.FromString(graph(constant=LONG)))
    assert skeleton_of(model, WEIGHTS) is None


def test_code_of_others_is_traced_each_time(tmp_path, cache, traced):
    backbone, bundle = random_bundle(tmp_path, CASE)
    model = ProPETLModel.from_bundle(bundle, backbone)
    model.network.get_submodule("encoder.layer.0").register_forward_hook(lambda module, arguments, output: output)
    tensors = task_tensors(model.layout, "linear")
    for _ in range(2):
        trace(Program(model), text_inputs_of(model), tensors, 20, KeptTraces(cache))
    assert len(traced) == 2 and not cache.exists()


def test_a_file_under_another_key_is_not_there(tmp_path):
    kept = KeptTraces(tmp_path)
    kept.put("key", b"graph")
    kept._path("key").rename(kept._path("other"))
    assert kept.get("other") is None


def test_a_pipe_is_not_waited_for(tmp_path):
    kept = KeptTraces(tmp_path)
    os.mkfifo(kept._path("key"))
    assert kept.get("key") is None


def test_a_link_is_not_written_through(tmp_path):
    kept, own = KeptTraces(tmp_path / "kept"), tmp_path / "own"
    kept.folder.mkdir()
    own.write_bytes(b"precious")
    kept._path("key").symlink_to(own)
    kept.put("key", b"graph")
    assert own.read_bytes() == b"precious"


def test_a_folder_that_others_own_is_read(tmp_path, monkeypatch):
    """Only its owner may set the time of use."""
    kept = KeptTraces(tmp_path)
    kept.put("key", b"graph")

    def refused(*_, **__):
        raise PermissionError

    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(Path, "touch", refused)
    assert kept.get("key") == b"graph"


def test_only_kept_files_go(tmp_path):
    """The folder may hold other tools' traces, and a file may go while others are listed."""
    kept = KeptTraces(tmp_path)
    (tmp_path / "browser.trace").write_bytes(b"precious")
    os.utime(tmp_path / "browser.trace", (0, 0))
    kept._path("gone").symlink_to(tmp_path / "nowhere")
    for number in range(_MOST + 1):
        kept.put(f"{number}", b"graph")
        os.utime(kept._path(f"{number}"), (number + 1, number + 1))
    kept.put("new", b"graph")
    assert (tmp_path / "browser.trace").read_bytes() == b"precious"
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) == _MOST and not kept._path("0").exists()


@pytest.mark.parametrize("damage", [b"", b"0" * 64, None])
def test_a_damaged_file_is_not_there(tmp_path, damage):
    kept = KeptTraces(tmp_path)
    kept.put("key", b"graph")
    assert kept.get("key") == b"graph" and kept.get("other") is None
    path = kept._path("key")
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    assert kept.get("key") is None


def test_what_was_not_used_for_longest_goes(tmp_path):
    kept = KeptTraces(tmp_path)
    for number in range(_MOST):
        kept.put(f"{number}", b"graph")
        os.utime(kept._path(f"{number}"), (number, number))
    kept.get("0")
    kept.put("new", b"graph")
    assert kept.get("0") and kept.get("new") and kept.get("1") is None and len(list(tmp_path.iterdir())) == _MOST


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    kept = KeptTraces(tmp_path / "file" / "traces")
    kept.put("key", b"graph")
    assert kept.get("key") is None
