"""Tasks that tag words, quantised, as engines, recorded for Polygraphy, benchmarked, and on the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from propetl.backbone import Backbone
from propetl.bundle import Bundle
from propetl.cli.main import main
from propetl.errors import ConfigurationError
from propetl.export.options import ExportOptions
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.export.writer import export_bundle
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime import Session
from propetl.runtime.artifact import read_artifact
from propetl.runtime.report import TOLERANCES
from tests.export.random_artifact import ALL_FORMS, Case, Exported, export, random_bundle

NER = ("O", "B-X", "I-X")
CASE = Case("bert", PrototypeConfig(bottleneck=16, sparsity=0.5), hidden=64, layers=1, tasks={"ner": NER, "two": 2})


@pytest.fixture(scope="module")
def random(tmp_path_factory) -> tuple[Backbone, Bundle]:
    return random_bundle(tmp_path_factory.mktemp("targets"), CASE)


@pytest.fixture(scope="module")
def bundle(random) -> Bundle:
    return random[1]


@pytest.fixture(scope="module")
def plain(random, tmp_path_factory) -> Exported:
    options = ExportOptions(forms=(*ALL_FORMS, "bare"))
    return export(random[0], random[1], tmp_path_factory.mktemp("plain") / "artifact", options)


def propetl(*words: object, stdin: str | None = None) -> str:
    done = CliRunner().invoke(main, list(map(str, words)), input=stdin, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(("precision", "operators"), [("int8", "standard"), ("int8-static", "onnxruntime")])
def test_quantised_forms_are_within_their_tolerance(random, tmp_path, precision: str, operators: str) -> None:
    options = ExportOptions(forms=ALL_FORMS, quantize=precision, operators=operators)
    quantised = export(random[0], random[1], tmp_path / "artifact", options)
    assert {(loss.task, loss.form) for loss in quantised.manifest.losses} >= {
        (task, form) for task in CASE.tasks for form in ALL_FORMS
    }
    tolerance, inputs = TOLERANCES[quantised.manifest.precision], quantised.inputs(4, 9)
    real = inputs["attention_mask"] == 1
    for form in ALL_FORMS:
        with Session.open(quantised.artifact, form=form, threads=1) as session:
            found, expected = session.run("ner", inputs)[real], quantised.logits("ner", inputs)[real]
        assert (np.abs(found - expected) <= tolerance.absolute + tolerance.relative * np.abs(expected)).all()
        assert np.abs(found - expected).max() > 1e-5  # it is quantised at all


def test_attention_as_one_operator(random, tmp_path) -> None:
    fused = export(random[0], random[1], tmp_path / "artifact", ExportOptions(forms=ALL_FORMS, operators="onnxruntime"))
    inputs = fused.inputs(4, 9)
    real = inputs["attention_mask"] == 1  # what is padding sees otherwise, and answers nothing
    for form in ALL_FORMS:
        with Session.open(fused.artifact, form=form, threads=1) as session:
            found, expected = session.run("ner", inputs)[real], fused.logits("ner", inputs)[real]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_engines_are_built_with_no_gpu(bundle, tmp_path) -> None:
    pytest.importorskip("tensorrt_rtx")
    words = "--form folded --form bank --target tensorrt-rtx --sm 86 --precision fp16 --profile 1x1/1x8/2x16"
    propetl("export", bundle.path, "-o", tmp_path / "out", *words.split())
    engines = read_artifact(tmp_path / "out").manifest.engines
    assert {(engine.form, engine.task) for engine in engines} == {
        ("folded", "ner"),
        ("folded", "two"),
        ("bank", None),
        ("stages", None),
    }


def test_one_engine_for_tags_and_classes_is_refused(bundle, tmp_path) -> None:
    engines = TensorRTOptions(("tensorrt-rtx",), refit=True)
    with pytest.raises(ConfigurationError, match="--refit: tasks ner tag words and two answer once a row"):
        export_bundle(bundle.path, tmp_path / "out", ExportOptions(forms=("folded",), engines=engines))


def test_records_for_polygraphy(bundle, tmp_path) -> None:
    pytest.importorskip("polygraphy")
    with pytest.raises(ConfigurationError, match="--polygraphy: tasks ner tag words"):
        export_bundle(bundle.path, tmp_path / "out", ExportOptions(forms=("bank",), polygraphy=True))
    options = ExportOptions(forms=("folded", "bank"), tasks=("ner",), polygraphy=True)
    export_bundle(bundle.path, tmp_path / "out", options)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = ["bash", str(tmp_path / "out" / "polygraphy" / "run.sh")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300, env=os.environ | {"PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_folder_of_a_task_is_a_token_classifier(plain) -> None:
    config = json.loads((plain.artifact / "folded" / "ner" / "config.json").read_text())
    assert config["architectures"] == ["BertForTokenClassification"]
    assert config["id2label"] == {"0": "O", "1": "B-X", "2": "I-X"}
    other = json.loads((plain.artifact / "folded" / "two" / "config.json").read_text())
    assert other["architectures"] == ["BertForSequenceClassification"]


def test_predict_answers_words_beside_labels(plain) -> None:
    rows = '{"text": "a man", "task": "ner"}\n{"text": "a man", "task": "two"}\n'
    tagged, labelled = map(json.loads, propetl("predict", plain.artifact, "--file", "-", stdin=rows).splitlines())
    assert set(labelled) == {"task", "label", "score"}
    assert set(tagged) == {"task", "words"}
    assert [(word["word"], word["start"], word["end"]) for word in tagged["words"]] == [("a", 0, 1), ("man", 2, 5)]
    assert all(word["tag"] in NER and 0 < word["score"] <= 1 for word in tagged["words"])
    words = json.loads(propetl("predict", plain.artifact, "--task", "ner", "a man", "--scores"))["words"]
    assert [list(word["scores"]) for word in words] == [list(NER)] * 2


def test_inspect_counts_the_head(bundle) -> None:
    tasks = json.loads(propetl("inspect", bundle.path, "--json", "-"))["tasks"]
    assert tasks["ner"]["storage"]["head_bits"] == 32 * (3 * 64 + 3)


def test_bench_times_tags_beside_pytorch(plain, tmp_path) -> None:
    report = tmp_path / "report.json"
    few = ("--task", "ner", "--rounds", 1, "--seconds", 0.001, "--batch", 1, "--seq", 8)
    propetl(
        "bench",
        plain.artifact,
        *few,
        "--form",
        "folded",
        "--form",
        "bank",
        "--bundle",
        plain.bundle.path,
        "--json",
        report,
    )
    found = json.loads(report.read_text())["latency"]
    assert [item["runtime"] for item in found] == ["bare", "folded", "bank", "eager"]
