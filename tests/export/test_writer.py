"""What an export leaves on disk."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.external_data_helper import uses_external_data
from transformers import AutoConfig, AutoTokenizer

import propetl
from propetl.bundle.format import pack_path
from propetl.export.options import DEFAULT_OPSET, OPSETS, ExportOptions
from propetl.export.writer import export_bundle
from propetl.files import sha256_of_file
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime import Session
from propetl.runtime.artifact import read_artifact
from propetl.runtime.manifest import BACKBONE_FILE, MANIFEST
from propetl.runtime.selftest import self_test
from tests.export.random_artifact import ALL_FORMS as SESSION_FORMS
from tests.export.random_artifact import TASKS, Case, export, random_bundle, torch_logits
from tests.tiny_backbone import transformers_tokenizer

ALL_FORMS = (*SESSION_FORMS, "bare")
STAGES = {f"stages/{stage}/model.onnx" for stage in ("apply", "run")}
GRAPHS = {f"folded/{task}/model.onnx" for task in TASKS} | {f"{form}/model.onnx" for form in ALL_FORMS[1:]} | STAGES


def graphs_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.onnx"))


def loaded(path):
    return onnx.load(path, load_external_data=False)


def run_by_path(graph, feeds):
    """As a user would who has only ONNX Runtime and the folder."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], feeds)[0]


def places_in_weights(graph):
    """Offset and length of every tensor that ``graph`` has in the shared file."""
    for tensor in loaded(graph).graph.initializer:
        if uses_external_data(tensor):
            entries = {entry.key: entry.value for entry in tensor.external_data}
            yield int(entries["offset"]), int(entries["length"])


def agree(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


class TestFiles:
    def test_what_is_there(self, exported):
        assert set(graphs_of(exported.artifact)) == GRAPHS
        assert {path.name for path in exported.artifact.iterdir()} == {
            *ALL_FORMS, "stages", "artifact.json", "backbone.data", "golden.safetensors", "tasks", "tokenizer",
        }  # fmt: skip
        assert {path.name for path in (exported.artifact / "tasks").iterdir()} == {
            f"{task}.safetensors" for task in TASKS
        }

    def test_nothing_but_json_safetensors_onnx_and_weights(self, exported):
        assert {path.suffix for path in exported.artifact.rglob("*") if path.is_file()} == {
            ".json",
            ".safetensors",
            ".onnx",
            ".data",
        }

    def test_the_manifest_is_what_was_returned(self, exported):
        artifact = read_artifact(exported.artifact)
        assert artifact.manifest.to_json() == exported.manifest.to_json()

    def test_the_manifest_vouches_for_every_other_file(self, exported):
        found = {
            path.relative_to(exported.artifact).as_posix() for path in exported.artifact.rglob("*") if path.is_file()
        }
        assert set(exported.manifest.files) == found - {MANIFEST}
        for relative, record in exported.manifest.files.items():
            assert record == {
                "sha256": sha256_of_file(exported.artifact / relative),
                "bytes": (exported.artifact / relative).stat().st_size,
            }

    def test_the_manifest_says_what_was_exported(self, exported):
        manifest, info = exported.manifest, exported.bundle.info
        assert (manifest.precision, manifest.opset, manifest.head) == ("fp32", DEFAULT_OPSET, "linear")
        assert (manifest.max_length, manifest.pad_token_id) == (24, 0)
        assert (manifest.backbone, manifest.prototype) == (info.backbone, info.prototype)
        assert manifest.bundle_sha256 == exported.bundle.sha256
        assert manifest.prototype_sha256 == exported.bundle.prototype_sha256
        assert {task: entry.info for task, entry in manifest.tasks.items()} == info.tasks
        assert manifest.forms["bank"].task_ids == {task: row for row, task in enumerate(TASKS)}
        assert set(manifest.tools) == {"propetl", "python", "torch", "transformers", "onnx", "onnx-ir", "onnxscript"}

    def test_packs_and_tokenizer_are_the_bundles(self, exported):
        for task in TASKS:
            assert (exported.artifact / pack_path(task)).read_bytes() == (
                exported.bundle.path / pack_path(task)
            ).read_bytes()
        own = exported.bundle.tokenizer_folder
        for folder in [exported.artifact / "tokenizer", *(exported.artifact / "folded" / task for task in TASKS)]:
            for name in ("tokenizer.json", "tokenizer_config.json"):
                assert (folder / name).read_bytes() == (own / name).read_bytes()

    def test_the_artifact_passes_its_own_test(self, exported):
        report = self_test(exported.artifact)
        assert report.passed, report.breaches
        assert {item.form for item in report.comparisons} == {
            *SESSION_FORMS, "switchable, one graph", "bank, one graph",
        }  # fmt: skip

    def test_a_second_export_gives_the_same_bytes(self, plain, tmp_path):
        for name in ("one", "other"):
            export_bundle(plain[1].path, tmp_path / name, ExportOptions())
        records = [read_artifact(tmp_path / name).manifest.files for name in ("one", "other")]
        assert records[0] == records[1]


class TestWeights:
    def test_are_on_disk_once(self, exported):
        shared = (exported.artifact / BACKBONE_FILE).stat()
        links = list((exported.artifact / "folded").glob("*/backbone.data"))
        assert len(links) == len(TASKS) and {path.stat().st_ino for path in links} == {shared.st_ino}
        parameters = list(exported.backbone.model.parameters())
        assert shared.st_size <= sum(4 * each.numel() for each in parameters) + 4096 * len(parameters)

    def test_every_graph_refers_to_the_one_file(self, exported):
        for relative in GRAPHS - {"stages/apply/model.onnx"}:  # which has the prototype alone
            outside = [
                each for each in loaded(exported.artifact / relative).graph.initializer if uses_external_data(each)
            ]
            assert len(outside) > 10
            locations = {entry.value for each in outside for entry in each.external_data if entry.key == "location"}
            assert locations == {"backbone.data"}

    def test_graphs_hold_only_what_is_theirs(self, exported):
        """The adapters of a folded task and its head, and constants of less than a kilobyte each."""
        hidden, width, slots = 24, 6, 2
        for task, outputs in TASKS.items():
            held = loaded(exported.artifact / "folded" / task / "model.onnx").graph.initializer
            large = sum(len(each.raw_data) for each in held if len(each.raw_data) >= 1024)
            assert large <= 4 * (2 * slots * hidden * width + max(1, outputs) * hidden)

    def test_masks_have_vanished_from_folded_graphs(self, exported):
        graph = loaded(exported.artifact / "folded" / "two" / "model.onnx").graph
        assert {item.name for item in graph.input} == {"input_ids", "attention_mask", "token_type_ids"}
        assert all(item.data_type != onnx.TensorProto.UINT8 for item in graph.initializer)
        assert "Gather" not in {node.op_type for node in graph.node if "table" in " ".join(node.input)}

    @pytest.mark.parametrize("task", TASKS)
    def test_a_folded_folder_runs_by_its_path(self, exported, task):
        feeds = exported.inputs(3, 8)
        agree(
            run_by_path(exported.artifact / "folded" / task / "model.onnx", feeds),
            torch_logits(exported.model, task, feeds),
        )


class TestGraphs:
    def test_pass_the_checker_in_full(self, exported, tmp_path):
        """Beside a copy of their weights: the checker refuses hard links."""
        shutil.copyfile(exported.artifact / BACKBONE_FILE, tmp_path / BACKBONE_FILE)
        for relative in GRAPHS:
            shutil.copyfile(exported.artifact / relative, tmp_path / "model.onnx")
            onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)

    def test_use_standard_operators_of_one_opset(self, exported):
        for relative in GRAPHS:
            model = loaded(exported.artifact / relative)
            assert {node.domain for node in model.graph.node} == {""}
            assert {(each.domain, each.version) for each in model.opset_import} == {("", DEFAULT_OPSET)}
            assert not model.functions

    def test_take_and_give_what_the_manifest_says(self, exported):
        for form in exported.manifest.forms.values():
            stages = () if form.stages is None else form.stages.graphs()
            for graph in (*form.all_graphs().values(), *stages):
                found = loaded(exported.artifact / graph.path).graph
                for values, stated in ((found.input, graph.inputs), (found.output, graph.outputs)):
                    assert [_signature(value) for value in values] == [
                        (each.name, each.dtype, each.shape) for each in stated
                    ]

    @pytest.mark.parametrize("relative", sorted(GRAPHS))
    def test_say_where_they_come_from(self, exported, relative):
        model = loaded(exported.artifact / relative)
        form, _, rest = relative.partition("/")
        tasks = {"folded": [rest.split("/")[0]], "bare": []}.get(form, list(TASKS))
        notes = {item.key: item.value for item in model.metadata_props}
        assert (model.producer_name, model.producer_version) == ("propetl", propetl.__version__)
        assert notes["propetl.form"] == form and notes["propetl.bundle_sha256"] == exported.bundle.sha256
        assert json.loads(notes["propetl.tasks"]) == tasks
        labels = {task: list(exported.bundle.info.tasks[task].labels) for task in tasks}
        assert json.loads(notes["propetl.labels"]) == labels

    def test_name_no_path_of_this_machine(self, exported):
        root = Path(propetl.__file__).resolve().parents[1]
        names = [
            str(root),
            str(Path.home()),
            str(exported.artifact.parent),
            os.sep + "tmp" + os.sep,
            "site-packages",
            ".py",
        ]
        for relative in GRAPHS:
            content = (exported.artifact / relative).read_bytes()
            assert not [name for name in {*names, "/work", "/root"} if name.encode() in content]


def _signature(value):
    kind = value.type.tensor_type
    sizes = tuple(size.dim_param or size.dim_value for size in kind.shape.dim)
    return value.name, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, sizes


class TestTransformersLayout:
    @pytest.mark.parametrize("task", TASKS)
    def test_the_configuration_is_a_classifiers(self, exported, task):
        config = AutoConfig.from_pretrained(exported.artifact / "folded" / task)
        info = exported.bundle.info.tasks[task]
        names = list(info.labels) or ["LABEL_0"]
        assert config.architectures == ["BertForSequenceClassification"]
        assert [config.id2label[index] for index in range(config.num_labels)] == names
        assert config.label2id == {name: index for index, name in enumerate(names)}
        expected = "regression" if task == "value" else "single_label_classification"
        assert config.problem_type == expected

    def test_the_configuration_names_no_path(self, exported):
        assert str(exported.artifact.parent) not in (exported.artifact / "folded" / "two" / "config.json").read_text()

    def test_the_tokenizer_is_beside_it(self, exported):
        tokenizer = AutoTokenizer.from_pretrained(exported.artifact / "folded" / "two")
        own = transformers_tokenizer(exported.backbone)
        assert tokenizer("good dog")["input_ids"] == own("good dog")["input_ids"]

    def test_a_standalone_folder_can_be_moved(self, lora, tmp_path):
        backbone, bundle = lora
        made = export(backbone, bundle, tmp_path / "artifact", ExportOptions(tasks=("two",), standalone=True))
        assert (made.artifact / "folded" / "two" / "backbone.data").stat().st_nlink == 1
        (made.artifact / "folded" / "two").rename(tmp_path / "moved")
        shutil.rmtree(made.artifact)
        onnx.checker.check_model(str(tmp_path / "moved" / "model.onnx"), full_check=True)
        feeds = made.inputs(2, 6)
        agree(run_by_path(tmp_path / "moved" / "model.onnx", feeds), torch_logits(made.model, "two", feeds))


class TestOptions:
    @pytest.mark.parametrize("opset", [18, 19, 20])
    @pytest.mark.parametrize("merge", [False, True], ids=["beside", "merged"])
    def test_lora_beside_and_merged_at_every_opset(self, lora, tmp_path, opset, merge):
        backbone, bundle = lora
        made = export(backbone, bundle, tmp_path / "artifact", ExportOptions(opset=opset, merge_weights=merge))
        model, feeds = made.model, made.inputs(3, 9)
        with Session.open(made.artifact, threads=1) as session:
            for task in ("two", "three"):
                agree(session.run(task, feeds), torch_logits(model, task, feeds))
        graph = loaded(made.artifact / "folded" / "two" / "model.onnx")
        assert [(each.domain, each.version) for each in graph.opset_import] == [
            ("", opset)
        ] and made.manifest.opset == opset
        held = sum(len(each.raw_data) for each in graph.graph.initializer)
        hidden, rank = 64, 3
        matrices, pairs = 4 * 2 * hidden * hidden, 4 * 2 * 2 * hidden * rank
        assert (matrices if merge else pairs) <= held < (matrices + 8192 if merge else matrices)

    @pytest.mark.parametrize(
        "options",
        [ExportOptions(merge_weights=True), ExportOptions(), ExportOptions(forms=("folded", "switchable", "bank"))],
        ids=["merged", "beside", "all forms"],
    )
    def test_shared_weights_hold_nothing_that_no_graph_reads(self, lora, tmp_path, options):
        """Merged, neither the matrices that LoRA went into nor the prototype; beside, no prototype."""
        backbone, bundle = lora
        made = export(backbone, bundle, tmp_path / "artifact", options)
        read = {place for graph in graphs_of(made.artifact) for place in places_in_weights(made.artifact / graph)}
        pages = [-(-length // 4096) * 4096 for _, length in read]
        size = (made.artifact / BACKBONE_FILE).stat().st_size
        assert sum(pages) - 4096 < size <= sum(pages)  # the last page is not filled up

    def test_every_opset_that_is_offered_is_tested(self):
        assert OPSETS == (18, 19, 20) and DEFAULT_OPSET == 20

    def test_a_choice_of_tasks_is_all_that_is_exported(self, tmp_path):
        backbone, bundle = random_bundle(
            tmp_path, Case("bert", PrototypeConfig("head"), layers=1, tasks={"a": 2, "b": 3})
        )
        made = export(backbone, bundle, tmp_path / "artifact", ExportOptions(tasks=("b", "b")))
        assert set(made.manifest.tasks) == {"b"} and graphs_of(made.artifact) == ["folded/b/model.onnx"]
        assert not (made.artifact / pack_path("a")).exists()
        with Session.open(made.artifact) as session:
            assert session.tasks == ("b",)

    def test_one_trace_serves_all_graphs_of_a_program(self, exported):
        assert [line for line in exported.lines if line.startswith("tracing")] == [
            "tracing: one task per batch",
            "tracing: one task per row",
            "tracing: backbone alone",
        ]
        assert [line for line in exported.lines if line.startswith("binding")] == [
            *(f"binding: folded {task}" for task in TASKS),
            "binding: switchable",
            "binding: bank",
            "binding: bare",
            "binding: stages apply",
            "binding: stages run",
        ]

    def test_the_bare_backbone_is_backbone_and_head(self, exported):
        first, feeds = next(iter(TASKS)), exported.inputs(3, 7)  # the head is the first task's
        options = onnxruntime.SessionOptions()
        folder = str(exported.artifact)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        content = (exported.artifact / "bare" / "model.onnx").read_bytes()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        config = PrototypeConfig(method="head")
        model = ProPETLModel(exported.backbone, config, tasks={first: exported.bundle.info.tasks[first]}).eval()
        model._load_head(first, {name: _tensor(value) for name, value in exported.bundle.pack(first).head.items()})
        agree(session.run(["logits"], feeds)[0], torch_logits(model, first, feeds))


def _tensor(array):
    return torch.from_numpy(array)
