"""What is not installed is missed before any work: no file is read, none written."""

import sys

import pytest

from propetl.errors import MissingExtraError
from propetl.export.needed import check_needed
from propetl.export.options import ExportOptions
from propetl.export.other_tools.writer import export_for_other_tools
from propetl.export.writer import export_bundle


@pytest.mark.parametrize(
    ("module", "options", "option"),
    [
        ("polygraphy", ExportOptions(polygraphy=True), "--polygraphy"),
        ("onnxruntime", ExportOptions(quantize="int8"), "--quantize int8"),
        ("onnxruntime", ExportOptions(quantize="int8-static"), "--quantize int8-static"),
        ("onnxruntime", ExportOptions(quantize="fp16"), "--quantize fp16"),
        ("onnxruntime", ExportOptions(tune=True), "--tune cpu"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_missed_before_the_bundle_is_read(module, options, option, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=f"^{option} needs {module!r}"):
        export_bundle(tmp_path / "no-bundle", tmp_path / "out", options)
    assert not list(tmp_path.iterdir())


def test_files_of_onnx_runtime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match="form onnx-adapter needs 'onnxruntime'"):
        export_for_other_tools(tmp_path / "no-bundle", tmp_path / "out", ExportOptions(forms=("onnx-adapter",)))


def test_graphs_alone_need_no_engine(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    check_needed(ExportOptions(forms=("folded", "bank", "bare")))


def test_a_folder_of_that_name_is_no_library(tmp_path, monkeypatch):
    """Where the export runs there may be one of an earlier artifact."""
    (tmp_path / "polygraphy").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "polygraphy", raising=False)
    with pytest.raises(MissingExtraError):
        check_needed(ExportOptions(polygraphy=True))
