import json
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from propetl.backbone import load_backbone
from propetl.bundle import read_bundle, write_bundle
from propetl.cli.main import main
from propetl.errors import ArtifactError, MissingExtraError
from propetl.export import eager
from propetl.export.eager import load_eager
from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.harvest import bundle_contents
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.bench.messages import Cell, Load, Vocabulary
from propetl.runtime.bench.plan import BenchOptions, plan_of
from propetl.runtime.bench.tokens import feeds_of
from propetl.task import TaskSpec
from tests.tiny_backbone import VOCABULARY, tiny_backbone

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TASKS = {
    "topic": TaskSpec("topic", ("text",), labels=("a", "b", "c")),
    "mood": TaskSpec("mood", ("text",), problem="regression", metrics=("pearson",)),
}
WORDS = Vocabulary(len(VOCABULARY), 0, INPUTS)
FEEDS = feeds_of(Cell(5, 7), WORDS)


def write_random_bundle(folder, backbone, seed):
    """A bundle whose prototype changes the logits; nothing in it was trained."""
    model = ProPETLModel(backbone, PrototypeConfig(bottleneck=4), "linear", TASKS, seed).eval()
    with torch.no_grad():
        for parameter in model.prototype.parameters():
            parameter.normal_(std=0.3)
    write_bundle(folder, bundle_contents(model, 32, dict.fromkeys(TASKS, FEEDS), {}))
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return load_backbone(str(tiny_backbone(tmp_path_factory.mktemp("eager") / "model")))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, backbone):
    return write_random_bundle(tmp_path_factory.mktemp("eager") / "bundle", backbone, seed=1)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory, bundle):
    folder = tmp_path_factory.mktemp("eager") / "artifact"
    export_bundle(bundle, folder, ExportOptions(forms=("switchable", "bare")))
    return folder


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def load_of(bundle):
    return Load(str(bundle), "eager", "topic", "cpu", 1, WORDS)


@pytest.mark.usefixtures("threads")
def test_it_is_the_trained_model(bundle, backbone):
    subject = load_eager(load_of(bundle))
    assert torch.get_num_threads() == 1
    model = ProPETLModel.from_bundle(read_bundle(bundle), backbone)
    tensors = {name: torch.from_numpy(value) for name, value in FEEDS.items()}
    expected = {}
    for task in TASKS:
        with torch.no_grad():
            expected[task] = model(task, **tensors).logits.numpy()
        np.testing.assert_allclose(subject.run(task, FEEDS), expected[task], rtol=1e-6, atol=1e-6)
    tasks = ["topic", "mood", "topic", "mood", "mood"]
    for row, logits in enumerate(subject.run_mixed(tasks, FEEDS)):
        np.testing.assert_allclose(logits, expected[tasks[row]][row], rtol=1e-4, atol=1e-5)
    assert subject.adding_times("topic", 3) == []


def test_without_pytorch_the_line_that_installs_it_is_named(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"'torch', which is not installed: .*pip install .*\[export"):
        load_eager(load_of(bundle))


def test_a_bundle_that_the_artifact_was_not_made_from(tmp_path, artifact, bundle, backbone):
    other = write_random_bundle(tmp_path / "other", backbone, seed=2)
    assert [runtime.name for runtime in plan_of(artifact, BenchOptions(bundle=bundle)).runtimes][-1] == "eager"
    with pytest.raises(ArtifactError, match="was exported from another bundle"):
        plan_of(artifact, BenchOptions(bundle=other))


def test_the_first_answer_is_one_line_of_stages(bundle, capsys):
    inputs = {name: value.tolist() for name, value in FEEDS.items()}
    eager._first_answer({"source": str(bundle), "task": "topic", "threads": 1, "inputs": inputs})
    stages = json.loads(capsys.readouterr().out)
    assert list(stages) == ["imports", "opening", "running"] and stages["running"] > 0


@pytest.mark.slow
def test_beside_the_runtimes(artifact, bundle, tmp_path):
    report = tmp_path / "bench.json"
    short = ["--batch", "2", "--seq", "4", "--rounds", "1", "--seconds", "0.001"]
    line = ["bench", str(artifact), "--bundle", str(bundle), *short, "--json", str(report)]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.stderr
    value = json.loads(report.read_text())
    assert [item["runtime"] for item in value["latency"]] == ["bare", "switchable", "eager"]
    assert {item["runtime"] for item in value["switching"]} == {"switchable", "eager"}
    assert value["starts"][-1]["trusted"] is None
    assert value["conditions"]["versions"]["torch"] == torch.__version__
