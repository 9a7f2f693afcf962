"""What sessions, self-tests and exports say of tasks that answer in text."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from propetl.errors import ArtifactError, ConfigurationError, TaskError
from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.files import file_record, json_bytes
from propetl.runtime import Session
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.forms.choose import open_form
from propetl.runtime.golden import golden_bytes
from propetl.runtime.selftest import self_test
from propetl.sealed import FILES, sealed
from tests.export.random_text_artifact import TASKS, prompts

MIXED = [("mood", "a man"), ("echo", ("no", "dog")), ("degree", "good"), ("mood", "is"), ("echo", ("a", "b"))]


@pytest.fixture
def copied(text_artifact, tmp_path):
    shutil.copytree(text_artifact.artifact, tmp_path / "artifact")
    return tmp_path / "artifact"


@pytest.fixture(scope="module", params=["folded", "switchable", "bank"])
def session(request, text_artifact):
    with Session.open(text_artifact.artifact, form=request.param, threads=1, batch_size=2) as opened:
        yield opened


def test_mixed_rows_are_answered_like_rows_of_one_task(session) -> None:
    found = session.predict_mixed(MIXED)
    assert [item.generated for item in found] == [session.predict(task, [text])[0].generated for task, text in MIXED]


def test_streamed_pieces_are_the_texts(session) -> None:
    rows = ["a man", "no good dog at all", "is", "bad"]
    pieces: dict[int, list[str]] = {}
    found = session.generate(
        "degree", rows, stream=lambda row, piece: pieces.setdefault(row, []).append(piece), beams=1, max_new_tokens=15
    )
    assert ["".join(pieces.get(row, [])) for row in range(4)] == found


def test_sampling_does_not_depend_on_the_batch(session, text_artifact) -> None:
    rows = ["a man", "no good dog at all", "is", "bad dog"]
    drawn = session.generate("mood", rows, sample=True, seed=4, temperature=1.5, max_new_tokens=12)
    assert drawn != session.generate("mood", rows, sample=True, seed=5, temperature=1.5, max_new_tokens=12)
    with Session.open(text_artifact.artifact, form=session.form, threads=1, batch_size=32) as other:
        assert drawn == other.generate("mood", rows, sample=True, seed=4, temperature=1.5, max_new_tokens=12)


def test_the_most_likely_draw_is_greedy(session) -> None:
    rows = ["a man", "dog"]
    greedy = session.generate("degree", rows, beams=1)
    assert session.generate("degree", rows, sample=True, top_k=1) == greedy


def test_labels_and_values_are_read_from_texts(text_artifact) -> None:
    """Answers as they would be, not as random weights give them."""
    mood, degree, echo = (TASKS[task] for task in ("mood", "degree", "echo"))
    assert mood.kind.prediction(mood, " dog").label == "good"
    assert mood.kind.prediction(mood, "cat").label is None
    assert degree.kind.prediction(degree, "3.4").score == 3.4
    assert degree.kind.prediction(degree, "three").score is None
    assert echo.kind.prediction(echo, "a b").generated == "a b"


def test_what_a_task_without_head_cannot_do_is_refused(session) -> None:
    with pytest.raises(TaskError, match="use generate or predict"):
        session.run("mood", ["a man"])
    with pytest.raises(TaskError, match="use generate or predict"):
        session.run_mixed(MIXED)
    with pytest.raises(TaskError, match="takes a pair"):
        session.generate("echo", ["a man"])
    with pytest.raises(ConfigurationError, match="one beam"):
        session.generate("degree", ["a man"], beams=2, stream=lambda row, piece: None)
    with pytest.raises(ConfigurationError, match="top_p"):
        session.generate("degree", ["a man"], sample=True, top_p=2.0)


def test_tasks_of_constant_graphs_stay(text_artifact) -> None:
    pack = text_artifact.bundle.pack("mood")
    for form, message in (("folded", "folded graphs"), ("bank", "the bank is a constant")):
        running = open_form(read_artifact(text_artifact.artifact), form, EngineOptions(threads=1))
        with pytest.raises(TaskError, match=message):
            running.add(replace(pack, task="more"))
    with pytest.raises(TaskError, match="cannot be removed"):
        running.remove("mood")
    for form in ("folded", "switchable"):
        with Session.open(text_artifact.artifact, form=form, threads=1) as opened:
            opened.remove_task("mood")
            with pytest.raises(TaskError, match="mood"):
                opened.generate("mood", ["a"])
            assert len(opened.generate("degree", ["a"])) == 1


def test_a_classifier_generates_nothing(exported) -> None:
    with Session.open(exported.artifact, form="folded", threads=1) as opened:
        task = opened.tasks[0]
        with pytest.raises(TaskError, match="answers with a head"):
            opened.generate(task, exported.inputs(1, 3))
        with pytest.raises(TaskError, match="answers with a head"):
            opened.predict(task, exported.inputs(1, 3), beams=2)


class TestSelfTest:
    def test_it_passes_and_looks_at_every_graph_and_text(self, text_artifact):
        report = self_test(text_artifact.artifact, threads=1)
        assert report.passed, report.breaches
        checked = {check.subject for check in report.checks if check.name == "signature"}
        graphs = {path for path in text_artifact.manifest.files if path.endswith(".onnx")}
        assert checked == graphs and len(graphs) == 3 * (len(TASKS) + 2) + 4
        generated = {(item.task, item.form) for item in report.comparisons if item.of == "texts"}
        ways = ("folded", "switchable", "switchable, one graph", "bank", "bank, one graph")
        assert generated == {(task, form) for task in TASKS for form in ways}

    def test_another_text_is_a_breach(self, text_artifact, copied):
        artifact = read_artifact(text_artifact.artifact)
        goldens = {task: artifact.golden(task) for task in TASKS}
        changed = np.array(goldens["mood"].tokens)
        changed[1, 0] += 1
        goldens["mood"] = replace(goldens["mood"], tokens=changed)
        _rewrite(copied, "golden.safetensors", golden_bytes(goldens))
        breaches = self_test(copied, form="bank", threads=1).breaches
        assert [breach.split(":")[0] for breach in breaches] == [
            f"task mood, form {way} (golden rows generated), row 1" for way in ("bank", "bank, one graph")
        ]
        assert all("other text" in breach for breach in breaches)

    def test_tokens_of_other_rows_are_refused(self, text_artifact, copied):
        artifact = read_artifact(text_artifact.artifact)
        goldens = {task: artifact.golden(task) for task in TASKS}
        goldens["mood"] = replace(goldens["mood"], tokens=np.array(goldens["mood"].tokens)[:1])
        _rewrite(copied, "golden.safetensors", golden_bytes(goldens))
        breaches = self_test(copied, form="bank", threads=1).breaches
        assert any("golden tokens of task mood" in breach for breach in breaches)


class TestManifest:
    def test_it_names_the_parts_of_every_form(self, text_artifact):
        manifest = read_artifact(text_artifact.artifact).manifest
        assert manifest.generation is not None and manifest.generation.special.start == 0
        for form in manifest.forms.values():
            assert list(form.parts) == ["encoder", "decoder", "decoder_with_past"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda value: value["forms"]["bank"]["parts"].pop("decoder"), "has the parts"),
            (lambda value: value["forms"]["bank"]["stages"]["run"].pop("decoder"), "its stages run encoder, decoder"),
            (
                lambda value: value["forms"]["bank"]["stages"]["run"]["encoder"]["inputs"].pop(0),
                "stages/run/encoder_model.onnx: a run graph has input input_ids",
            ),
            (
                lambda value: value["forms"]["bank"]["stages"]["run"]["encoder"]["outputs"].clear(),
                "stages/run/encoder_model.onnx: a run graph has output last_hidden_state",
            ),
            (
                lambda value: value["forms"]["bank"]["stages"]["apply"]["outputs"].pop(0),
                r"a run graph has input no applied\.0",
            ),
            (lambda value: value["generation"].update(heads=2), "decoder_model.onnx: a folded graph has output"),
            (lambda value: value.update(generation=None), "has the parts model"),
            (lambda value: value["generation"]["special"].update(ends=["x"]), "special.ends is 'x'"),
            (lambda value: value["generation"].update(unheard=1), "unheard"),
            (
                lambda value: value["forms"]["folded"]["parts"]["encoder"]["graphs"].pop("mood"),
                "parts are of different tasks",
            ),
        ],
        ids=["part", "stage", "tokens", "states", "applied", "heads", "classifier", "ends", "unknown", "tasks"],
    )
    def test_what_does_not_fit_is_refused(self, copied, change, message):
        value = json.loads((copied / "artifact.json").read_bytes())
        change(value)
        (copied / "artifact.json").write_bytes(json_bytes(sealed(value, FILES)))
        with pytest.raises(ArtifactError, match=message):
            read_artifact(copied, verify=False)


class TestExport:
    @pytest.mark.parametrize(
        ("options", "named"),
        [
            (ExportOptions(forms=("bare",)), "form bare"),
            (ExportOptions(forms=("bank",), triton=True), "--layout triton"),
        ],
        ids=["bare", "triton"],
    )
    def test_what_is_for_heads_is_refused(self, text_artifact, tmp_path, options, named):
        with pytest.raises(ConfigurationError, match=named):
            export_bundle(text_artifact.bundle.path, tmp_path / "out", options)
        assert not (tmp_path / "out").exists()

    def test_a_folded_folder_is_one_of_transformers(self, text_artifact):
        folder = text_artifact.artifact / "folded" / "mood"
        assert sorted(path.name for path in folder.iterdir()) == [
            "backbone.data",
            "config.json",
            "decoder_model.onnx",
            "decoder_with_past_model.onnx",
            "encoder_model.onnx",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
        config = json.loads((folder / "generation_config.json").read_bytes())
        expected = {"max_new_tokens": 6, "num_beams": 3, "length_penalty": 0.6, "decoder_start_token_id": 0}
        assert expected.items() <= config.items()
        assert json.loads((folder / "config.json").read_bytes())["is_encoder_decoder"]
        tokenizer = json.loads((folder / "tokenizer_config.json").read_bytes())
        assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"  # which transformers 4 knows as well

    def test_graphs_share_their_weights(self, text_artifact):
        sizes = {path: record["bytes"] for path, record in text_artifact.manifest.files.items()}
        graphs = [size for path, size in sizes.items() if path.endswith(".onnx")]
        weights = sum(tensor.numel() for tensor in text_artifact.backbone.model.parameters()) * 4
        assert sizes["backbone.data"] < 3 * weights  # pages are filled up; tiny tensors take one each
        assert max(graphs) < weights


def test_prompts_of_these_tests_end_and_are_padded() -> None:
    inputs = prompts(np.random.default_rng(0), 5, 7)
    assert (inputs["input_ids"][inputs["attention_mask"] == 0] == 0).all()


def _rewrite(folder: Path, relative: str, content: bytes) -> None:
    (folder / relative).write_bytes(content)
    value = json.loads((folder / "artifact.json").read_bytes())
    value["files"][relative] = file_record(folder / relative)
    (folder / "artifact.json").write_bytes(json_bytes(value))
