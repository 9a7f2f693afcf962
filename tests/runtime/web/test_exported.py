"""What ``propetl export --layout web`` leaves, run under Node: tags, values and classes, fp32 and int8."""

from pathlib import Path
from typing import Any

import pytest

from propetl.errors import ConfigurationError
from propetl.export.options import ExportOptions
from propetl.export.web_page import page_files
from propetl.export.writer import export_bundle
from propetl.files import file_record
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime import Session
from propetl.runtime.artifact import read_artifact
from tests.export.random_artifact import Case, random_bundle
from tests.runtime.web.agreement import assert_same
from tests.runtime.web.node_packages import node, with_packages

TASKS = {"value": 0, "two": 2, "tags": ("O", "B", "I")}
SINGLE = ["a good man was not bad", "dogs, dogs!", "is it 10\u00a0000 ?  no\x01 \x02 good " + "man " * 40]
PAIRS = [("a good man", "a bad dog"), ("is it?", "no, it is not " * 9)]
LINES: dict[str, Any] = {"value": PAIRS, "two": SINGLE, "tags": SINGLE}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle, and its artifacts with a page by precision."""
    folder = tmp_path_factory.mktemp("exported")
    case = Case("bert", PrototypeConfig(bottleneck=5), layers=1, tasks=TASKS)
    _, bundle = random_bundle(folder, case)
    for precision in ("fp32", "int8"):
        options = ExportOptions(forms=("switchable",), quantize=precision, web=True)
        export_bundle(bundle.path, folder / precision, options)
        with_packages(folder / precision / "web")
    return bundle, folder


def answers(artifact: Path):
    steps = [["run", task, rows] for task, rows in LINES.items()] + [["predict", "tags", SINGLE]]
    case = {"artifact": str(artifact), "steps": steps, "options": {}}
    (found,) = node("ask.mjs", given={"module": str(artifact / "web"), "cases": [case]})
    return found


def test_answers_are_those_of_python(made):
    *found, tagged = answers(made[1] / "fp32")
    with Session.open(made[1] / "fp32") as session:
        for (task, rows), logits in zip(LINES.items(), found, strict=True):
            for mine, row in zip(logits, rows, strict=True):
                theirs = session.run(task, [row])[0]
                assert_same(mine, theirs)
        for mine, theirs in zip(tagged, session.predict("tags", SINGLE), strict=True):
            assert [(word["word"], word["label"]) for word in mine["words"]] == [
                (word.word, word.tag) for word in theirs.words
            ]
        assert [word["label"] for word in tagged[2]["words"]].count(None) > 5


def test_int8_answers_are_close(made):
    *found, _ = answers(made[1] / "int8")
    with Session.open(made[1] / "int8") as session:
        for (task, rows), logits in zip(LINES.items(), found, strict=True):
            for mine, theirs in zip(logits, session.run(task, rows), strict=True):
                assert_same(mine, theirs[: len(mine)], within=0.05)


def test_files_of_the_page_are_those_of_the_artifact(made):
    artifact = read_artifact(made[1] / "fp32")
    for source in page_files():
        record = artifact.manifest.files[f"web/{source.name}"]
        assert record == file_record(source) == file_record(made[1] / "fp32" / "web" / source.name)
    assert {"index.html", "page.js", "session.js", "package.json"} <= {path.name for path in page_files()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"forms": ("bare",)}, "found bare alone"),
        ({"quantize": "fp16"}, "fp16 is for GPUs, and a page computes on the CPU"),
    ],
)
def test_what_a_page_cannot_run_is_refused(made, tmp_path, options, words):
    with pytest.raises(ConfigurationError, match=words):
        export_bundle(made[0].path, tmp_path / "out", ExportOptions(web=True, **options))
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_is_not_known_there_is_refused(tmp_path):
    case = Case("gpt2", PrototypeConfig(method="lora", rank=2), tasks={"two": 2})
    _, bundle = random_bundle(tmp_path, case)
    with pytest.raises(ConfigurationError, match="--layout web: pre_tokenizer Metaspace of the tokenizer"):
        export_bundle(bundle.path, tmp_path / "out", ExportOptions(web=True))
