"""The folder for another tool: its manifest, what is refused, and the command."""

import json

import pytest
from click.testing import CliRunner

from propetl.cli.main import main
from propetl.errors import ConfigurationError, MissingExtraError, TaskError
from propetl.export.options import ExportOptions
from propetl.export.other_tools.writer import MANIFEST, export_for_other_tools
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.files import verify_files

PEFT = ExportOptions(forms=("peft",))


def test_the_manifest_says_where_it_comes_from(lora, tmp_path) -> None:
    _, bundle = lora
    written = export_for_other_tools(bundle.path, tmp_path / "out", PEFT)
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert manifest["bundle_sha256"] == bundle.sha256 and manifest["form"] == "peft"
    assert written.tasks == {"two": "two", "three": "three"}
    assert {task: item["path"] for task, item in manifest["tasks"].items()} == written.tasks
    verify_files(tmp_path / "out", manifest["files"], ConfigurationError)
    on_disk = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert on_disk - {MANIFEST} == set(manifest["files"])


def test_one_task_of_several(lora, tmp_path) -> None:
    export_for_other_tools(lora[1].path, tmp_path / "out", ExportOptions(forms=("peft",), tasks=("three",)))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MANIFEST, "three"]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (ExportOptions(forms=("peft", "folded")), ConfigurationError, "one form each; got peft, folded"),
        (ExportOptions(forms=("folded",)), ConfigurationError, "got folded"),
        (ExportOptions(forms=()), ConfigurationError, "peft and onnx-adapter"),
        (ExportOptions(forms=("peft",), tasks=("none",)), TaskError, "'none' is not in"),
        (ExportOptions(forms=("peft",), merge_weights=True), ConfigurationError, "--merge-weights.*form peft"),
        (ExportOptions(forms=("peft",), polygraphy=True), ConfigurationError, "--polygraphy records"),
        (ExportOptions(forms=("peft",), engines=TensorRTOptions(("tensorrt",))), ConfigurationError, "--target builds"),
        (ExportOptions(forms=("peft",), tune=True), ConfigurationError, "--tune is for.*peft"),
        (ExportOptions(forms=("peft",), quantize="int8"), ConfigurationError, "--quantize is for.*peft"),
        (ExportOptions(forms=("peft",), operators="onnxruntime"), ConfigurationError, "--operators is for.*peft"),
        (ExportOptions(forms=("onnx-adapter",), opset=17), ConfigurationError, "opset 17"),
    ],
)
def test_what_is_refused(lora, tmp_path, options, error, words) -> None:
    with pytest.raises(error, match=words):
        export_for_other_tools(lora[1].path, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(lora, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("mine")
    with pytest.raises(ConfigurationError, match=MANIFEST):
        export_for_other_tools(lora[1].path, tmp_path / "mine", ExportOptions(forms=("peft",), overwrite=True))
    assert (tmp_path / "mine" / "precious").read_text() == "mine"


def test_without_onnxruntime_its_extra_is_named(lora, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[cpu\]'"):
        export_for_other_tools(lora[1].path, tmp_path / "out", ExportOptions(forms=("onnx-adapter",)))
    assert not (tmp_path / "out").exists()


def test_the_command_lists_what_it_wrote(lora, tmp_path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["export", str(lora[1].path), "-o", str(out), "--form", "peft"])
    assert result.exit_code == 0, result.stderr
    size = sum(path.stat().st_size for path in (out / "two").iterdir())
    assert "peft: 2 tasks" in result.stdout and f"{size:,}" in result.stdout
    again = CliRunner().invoke(main, ["export", str(lora[1].path), "-o", str(out), "--form", "peft"])
    assert again.exit_code == 2 and "exists already" in again.stderr


def test_the_command_refuses_a_bundle_of_another_method(plain, tmp_path) -> None:
    arguments = ["export", str(plain[1].path), "-o", str(tmp_path / "out"), "--form", "peft"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("propetl: error: form peft is for LoRA")
