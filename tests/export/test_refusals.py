"""What an export refuses, and what a fault half-way leaves."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from propetl.bundle import write_bundle
from propetl.bundle.format import pack_path
from propetl.errors import BundleError, ConfigurationError, TaskError
from propetl.export.options import ExportOptions
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.export.writer import export_bundle
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.manifest import MODEL, GraphInfo
from tests.tiny_backbone import tiny_backbone
from tests.tiny_bundle import random_contents


class TestRefused:
    """Before anything is written, and in one line."""

    @pytest.fixture
    def refuse(self, plain, tmp_path):
        def check(error, words, bundle=None, **options):
            target = tmp_path / "out" / "artifact"
            with pytest.raises(error, match=words) as caught:
                export_bundle(bundle or plain[1].path, target, ExportOptions(**options))
            assert "\n" not in str(caught.value)
            assert not target.parent.exists() or not list(target.parent.iterdir())

        return check

    def test_an_unknown_task(self, refuse):
        refuse(TaskError, r"task 'none' is not in .*; it has two", tasks=("none",))

    def test_an_unknown_form(self, refuse):
        refuse(
            ConfigurationError, "form 'frozen' is not known; known: folded, switchable, bank, bare", forms=("frozen",)
        )

    def test_no_form(self, refuse):
        refuse(ConfigurationError, "no form", forms=())

    @pytest.mark.parametrize("opset", [5, 17, 21, 0])
    def test_an_opset_that_was_not_tested(self, refuse, opset):
        refuse(ConfigurationError, f"opset {opset} is not among those tested: 18, 19, 20", opset=opset)

    def test_unknown_operators(self, refuse):
        refuse(ConfigurationError, "operators 'tpu' are not known; known: standard, onnxruntime", operators="tpu")

    def test_engines_from_operators_that_they_do_not_know(self, refuse):
        engines = TensorRTOptions(("tensorrt-rtx",), compute_capabilities=(86,))
        refuse(ConfigurationError, "from standard operators", operators="onnxruntime", engines=engines)

    def test_merging_what_is_no_lora(self, refuse):
        refuse(ConfigurationError, "--merge-weights is for LoRA in folded form; this is head", merge_weights=True)

    def test_merging_in_a_form_whose_masks_are_open(self, refuse, lora):
        for form in ("switchable", "bank"):
            options = {"forms": ("folded", form), "merge_weights": True}
            refuse(ConfigurationError, "--merge-weights", bundle=lora[1].path, **options)

    def test_forms_that_triton_cannot_batch(self, refuse):
        words = "--layout triton takes --form bank or folded; found switchable, bare: Triton batches"
        refuse(ConfigurationError, words, forms=("switchable", "bare"), triton=True)

    def test_a_batch_of_no_rows(self):
        with pytest.raises(ConfigurationError, match="--max-batch takes a number of at least 1; got 0"):
            ExportOptions(max_batch=0)

    def test_another_backbone(self, refuse, tmp_path):
        other = tiny_backbone(tmp_path / "other", "bert", layers=1, seed=1)
        refuse(BundleError, "has fingerprint .*--backbone", backbone=str(other))

    def test_a_backbone_that_is_not_there(self, refuse):
        refuse(ConfigurationError, "'/nowhere' cannot be loaded", backbone="/nowhere")

    def test_a_fully_trained_backbone(self, refuse, plain, tmp_path):
        backbone, _ = plain
        contents = random_contents(PrototypeConfig(method="full"), backbone.info, {"two": 2})
        weights = {f"backbone.{name}": value.numpy() for name, value in backbone.model.state_dict().items()}
        contents.tasks["two"] = dataclasses.replace(contents.tasks["two"], weights=weights)
        write_bundle(tmp_path / "full", contents)
        refuse(ConfigurationError, "fully trained backbone", bundle=tmp_path / "full")

    def test_a_damaged_bundle(self, refuse, plain, tmp_path):
        copy = Path(shutil.copytree(plain[1].path, tmp_path / "copy"))
        (copy / pack_path("two")).write_bytes(b"damaged")
        refuse(BundleError, "two.safetensors", bundle=copy)

    def test_a_bundle_without_tasks(self, refuse, plain, tmp_path):
        write_bundle(tmp_path / "empty", random_contents(PrototypeConfig(method="head"), plain[0].info, {}))
        refuse(TaskError, "has no tasks", bundle=tmp_path / "empty")


class TestFaults:
    def test_an_artifact_that_is_there_is_kept(self, plain, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "precious").write_text("mine")
        for overwrite in (False, True):  # and a folder that is no artifact is not overwritten either
            with pytest.raises(ConfigurationError, match=r"exists already|was not written by propetl"):
                export_bundle(plain[1].path, tmp_path / "out", ExportOptions(overwrite=overwrite))
        assert (tmp_path / "out" / "precious").read_text() == "mine"

    @pytest.mark.parametrize("step", ["golden_bytes", "write_config", "read_artifact", "graph_info"])
    def test_a_full_disk_half_way_leaves_the_old_artifact(self, plain, exported, tmp_path, monkeypatch, step):
        old = Path(shutil.copytree(exported.artifact, tmp_path / "out"))
        before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}

        def full_disk(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(f"propetl.export.writer.{step}", full_disk)
        monkeypatch.setattr("propetl.export.writer.Compiler.compile", lambda *_: iter([FakeGraph()]))
        monkeypatch.setattr("propetl.export.graphs.ir.save", lambda model, path: path.write_bytes(b""))
        monkeypatch.setattr("onnx.checker.check_model", lambda *_, **__: None)
        if step != "graph_info":
            monkeypatch.setattr("propetl.export.writer.graph_info", lambda *_: _graph())
        with pytest.raises(OSError, match="No space left"):
            export_bundle(plain[1].path, old, ExportOptions(overwrite=True))
        assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
        assert list(tmp_path.iterdir()) == [old]


class FakeGraph:
    """Stands for a compiled graph where only the steps after it matter."""

    form, step, part, model, path = "folded", MODEL, "two", None, "folded/two/model.onnx"


def _graph():
    return GraphInfo("folded/two/model.onnx", (), ())
