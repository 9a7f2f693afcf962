"""Tasks that are answered in text, from a configuration to a bundle: a tiny random T5, three kinds of answers."""

import io
import json
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from propetl.backbone import load_backbone
from propetl.bundle import read_bundle
from propetl.errors import ConfigurationError
from propetl.model import ProPETLModel
from propetl.training import trainer as trainer_module
from propetl.training.evaluate import evaluate_tasks
from propetl.training.processes import Processes
from propetl.training.run import train
from propetl.training.tasks import load_tasks, tokenizer_of
from tests.propetl.training.conftest import files_of, small_config
from tests.propetl.training.test_torchrun import torchrun
from tests.tiny_backbone import tiny_backbone

TASKS: dict[str, Any] = {
    "degree": {"columns": "text", "problem": "regression", "metrics": ["spearman", "pearson"]},
    "echo": {
        "columns": ["text", "other"],
        "label": "target",
        "problem": "text",
        "prompt": "echo {} after {}",
        "max_target_length": 6,
        "num_beams": 2,
        "metrics": ["rouge1", "bleu", "exact_match"],
    },
    "mood": {"columns": "text", "labels": ["bad", "good"]},
}
DEV_ROWS = 14


class Killed(BaseException):
    """Stands for SIGKILL where one process is enough."""


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory):
    return tiny_backbone(tmp_path_factory.mktemp("text") / "t5", "t5")


@pytest.fixture(scope="module")
def t5(t5_folder):
    return load_backbone(str(t5_folder))


@pytest.fixture(scope="module")
def text_data(tmp_path_factory):
    root = tmp_path_factory.mktemp("text-data")
    random = np.random.default_rng(5)

    def words(count):
        return " ".join("".join(word) for word in random.choice(list("mnopqrst"), size=(count, 2)))

    rows = {
        "mood": lambda number: {"text": f"{'xz'[number % 2] * 4} {words(random.integers(1, 3))}", "label": number % 2},
        "degree": lambda number: {"text": words(random.integers(1, 4)), "label": round(random.random() * 5, 2)},
        "echo": lambda number: {"text": words(1), "other": words(2), "target": words(random.integers(1, 5))},
    }
    for task, row in rows.items():
        (root / task).mkdir()
        for split, count in (("train", 30), ("dev", DEV_ROWS)):
            lines = [json.dumps(row(number)) for number in range(count)]
            (root / task / f"{split}.jsonl").write_text("\n".join(lines))
    return root


@pytest.fixture
def make_config(t5_folder, text_data, tmp_path):
    places = {"backbone": t5_folder, "data": text_data, "output": tmp_path / "run"}
    return partial(small_config, places, tasks=TASKS, max_length=32)


METHODS = {
    "adapter": {"bottleneck": 4, "activation": "gelu_new"},
    "houlsby": {"bottleneck": 4, "sites": ["attention", "ffn"]},
    "lora": {"method": "lora", "rank": 2},
    "prefix": {"method": "prefix", "prefix_length": 3, "prefix_hidden": 5},
    "hybrid houlsby": {"bottleneck": 4, "sites": ["attention", "ffn"], "masks": "hybrid", "sparsity": 0.3},
    "hybrid prefix": {
        "method": "prefix", "prefix_length": 3, "prefix_hidden": 5, "sparsity": 0.5, "masks": "hybrid", "combine": "add"
    },
    "a prototype each, hybrid": {
        "bottleneck": 4, "sites": ["attention", "ffn"], "masks": "hybrid", "sparsity": 0.3, "scope": "stack"
    },
    "a prefix each": {"method": "prefix", "prefix_length": 3, "prefix_hidden": 5, "scope": "stack"},
    "a LoRA each, no layer masks": {"method": "lora", "rank": 2, "masks": "only-tasks", "scope": "stack"},
    "(IA)3 each, hybrid": {"method": "ia3", "masks": "hybrid", "scope": "stack"},
    "adapters of all tasks": {"bottleneck": 4, "sharing": "tasks"},
    "prefixes of all tasks": {"method": "prefix", "prefix_length": 3, "prefix_hidden": 5, "sharing": "tasks"},
    "unshared adapter": {"bottleneck": 4, "sharing": "unshared"},
    "unshared prefix": {"method": "prefix", "prefix_length": 3, "prefix_hidden": 5, "sharing": "unshared"},
}  # fmt: skip


def evaluated(model, config):
    tasks = load_tasks(config, tokenizer_of(model.backbone), model.backbone.family.kind)
    return evaluate_tasks(model, tasks, 5, Processes())


@pytest.mark.parametrize("prototype", METHODS.values(), ids=METHODS)
def test_every_method_leaves_a_bundle_that_answers_as_trained(make_config, t5, prototype):
    config = make_config(prototype=prototype, learning_rate=0.01, max_steps=4)
    (result,) = train(config)
    bundle = read_bundle(result.bundle)
    assert all(not pack.head for pack in bundle.packs.values())
    assert bundle.info.layout == t5.info.layout(config.prototype)
    assert {name: tensor.shape for name, tensor in bundle.prototype.items()} == bundle.info.layout.prototype_shapes()
    found = evaluated(ProPETLModel.from_bundle(bundle, t5), config)
    for task, info in bundle.info.tasks.items():
        assert found[task] == pytest.approx(info.scores, abs=1e-6)
    samples = bundle.samples("echo")
    assert set(samples) == {"input_ids", "attention_mask"} and len(samples["input_ids"]) == 8


def test_what_the_bundle_says_of_each_task(make_config):
    (result,) = train(make_config(max_steps=1))
    degree, echo, mood = read_bundle(result.bundle).info.tasks.values()
    assert {info.problem for info in (mood, degree, echo)} == {"text"}
    assert mood.text is not None and degree.text is not None and echo.text is not None
    assert (mood.text.prompt, mood.text.words, mood.text.step) == ("mood text: {}", ("bad", "good"), None)
    assert (degree.text.prompt, degree.text.words, degree.text.step) == ("degree text: {}", (), 0.2)
    assert (echo.text.prompt, echo.text.max_target_length, echo.text.num_beams) == ("echo {} after {}", 6, 2)
    assert mood.text.max_target_length == 2  # a word and the end
    assert degree.text.max_target_length == 5  # ▁ 3 . 4 and the end


def test_a_killed_run_ends_as_an_undisturbed_one(make_config, tmp_path, monkeypatch):
    options = {"max_steps": 8, "eval_every": 3, "save_every": 2, "dropout": 0.2}
    (alone,) = train(make_config(**options, output=str(tmp_path / "undisturbed")))

    def evaluate(*_):
        raise Killed

    config = make_config(**options)
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "evaluate_tasks", evaluate)
        with pytest.raises(Killed):
            train(config)
    (resumed,) = train(config, resume=True)
    assert files_of(resumed.bundle) == files_of(alone.bundle)


def test_separate_and_added(make_config, t5, tmp_path):
    both = {name: TASKS[name] for name in ("mood", "echo")}
    results = train(make_config(tasks=both, max_steps=2), separate=True)
    assert [result.output.name for result in results] == ["mood", "echo"]
    before = files_of(results[0].bundle)
    added = make_config(tasks={"echo": TASKS["echo"]}, max_steps=2, output=str(tmp_path / "added"))
    (result,) = train(added, add_to=results[0].bundle)
    after = files_of(result.bundle)
    assert {name for name in after if after[name] != before.get(name)} == {
        "bundle.json",
        "tasks/echo.safetensors",
        "tasks/echo.samples.safetensors",
    }
    model = ProPETLModel.from_bundle(read_bundle(result.bundle), t5)
    assert evaluated(model, added)["echo"] == pytest.approx(result.scores["echo"], abs=1e-6)


def spoken(*names):
    """Tasks that share the mask of their language."""
    return {name: {**TASKS[name], "language": "de"} for name in names}


@pytest.mark.parametrize("scope", ["model", "stack"])
def test_added_over_hybrid_masks(make_config, t5, tmp_path, scope):
    prototype = {"method": "lora", "rank": 2, "masks": "hybrid", "sparsity": 0.3, "scope": scope}
    options = {"prototype": prototype, "max_steps": 2, "temperature": 10}
    (first,) = train(make_config(tasks=spoken("mood", "degree"), output=str(tmp_path / "first"), **options))
    before = read_bundle(first.bundle)
    (result,) = train(make_config(tasks=spoken("echo"), **options), add_to=first.bundle)
    after = read_bundle(result.bundle)
    assert after.prototype_sha256 == before.prototype_sha256
    slots = {len(mask) for mask in after.shared_masks.layers.values()}
    encoder, decoder = t5.info.layers, 2 * t5.info.decoder_layers
    assert slots == ({encoder + decoder} if scope == "model" else {encoder, decoder})
    config = make_config(tasks=spoken("mood", "degree", "echo"), **options)
    found = evaluated(ProPETLModel.from_bundle(after, t5), config)
    for task, info in after.info.tasks.items():
        assert found[task] == pytest.approx(info.scores, abs=1e-6)


@pytest.mark.parametrize(
    ("shared", "what"),
    [({"masks": "only-layers"}, r"masks \(masks: only-l"), ({"sharing": "tasks"}, r"weights \(sharing: tasks")],
)
def test_a_task_with_nothing_of_its_own_is_not_added(make_config, tmp_path, shared, what):
    options = {"prototype": {"bottleneck": 4, **shared}, "max_steps": 2}
    (first,) = train(make_config(tasks={"mood": TASKS["mood"]}, output=str(tmp_path / "first"), **options))
    config = make_config(tasks={"echo": TASKS["echo"]}, **options)
    with pytest.raises(ConfigurationError, match=f"task 'echo' has nothing of its own to train: .* share their {what}"):
        train(config, add_to=first.bundle)
    assert not config.output.exists()


def test_head_only_has_nothing_to_train(make_config):
    with pytest.raises(ConfigurationError, match="nothing to train"):
        train(make_config(prototype={"method": "head"}))


def test_full_fine_tuning(make_config, t5):
    config = make_config(prototype={"method": "full"}, tasks={"mood": TASKS["mood"]}, max_steps=2)
    (result,) = train(config)
    found = evaluated(ProPETLModel.from_bundle(read_bundle(result.bundle), t5), config)
    assert found["mood"] == pytest.approx(result.scores["mood"])


def test_the_report_is_printed(make_config):
    screen = io.StringIO()
    train(make_config(max_steps=1), console=Console(file=screen, width=100))
    assert "rouge1" in screen.getvalue() and "echo" in screen.getvalue()


def test_an_encoder_has_one_prototype(make_config, backbone_folder):
    config = make_config(backbone=str(backbone_folder), prototype={"scope": "stack"}, data="/nowhere")
    with pytest.raises(ConfigurationError, match="this backbone has one stack of layers"):
        train(config)


def test_an_encoder_is_refused_for_text(make_config, backbone_folder):
    config = make_config(backbone=str(backbone_folder), tasks={"echo": TASKS["echo"]})
    with pytest.raises(ConfigurationError, match="problem of kind text, but bert does not generate"):
        train(config)


@pytest.mark.parametrize("family", ["bart", "gpt2", "llama"])
@pytest.mark.parametrize(
    "prototype", [METHODS["adapter"], METHODS["lora"], METHODS["prefix"]], ids=lambda one: str(one)[:9]
)
def test_other_families(make_config, tmp_path, family, prototype):
    """Decoders answer in text and by heads, in one run."""
    backbone = load_backbone(str(tiny_backbone(tmp_path / family, family)))
    config = make_config(backbone=backbone.info.name, prototype=prototype, learning_rate=0.01, max_steps=3)
    (result,) = train(config)
    bundle = read_bundle(result.bundle)
    problems = {"degree": "regression", "echo": "text", "mood": "classification"}
    if family == "bart":
        problems = dict.fromkeys(problems, "text")
    assert {task: info.problem for task, info in bundle.info.tasks.items()} == problems
    assert {task for task, pack in bundle.packs.items() if not pack.head} == {
        task for task, problem in problems.items() if problem == "text"
    }
    found = evaluated(ProPETLModel.from_bundle(bundle, backbone), config)
    for task, info in bundle.info.tasks.items():
        assert found[task] == pytest.approx(info.scores, abs=1e-5)


@pytest.mark.parametrize(
    ("family", "problem"), [("t5", "text"), ("bart", "text"), ("gpt2", "text"), ("gpt2", "classification")]
)
def test_every_architecture_learns_an_easy_task(make_config, tmp_path, family, problem):
    definition = TASKS["mood"] | ({"problem": "text", "prompt": "{} is"} if problem == "text" else {})
    config = make_config(
        backbone=str(tiny_backbone(tmp_path / family, family)),
        tasks={"mood": definition},
        prototype={"bottleneck": 32, "sites": ["attention", "ffn"]},
        max_steps=120,
        eval_every=40,
        learning_rate=0.02,
        score_learning_rate=0.05,
        dropout=0.0,
    )
    (result,) = train(config)
    assert result.scores["mood"]["accuracy"] >= 0.9


@pytest.mark.slow
def test_two_processes_leave_the_bundle_of_one(make_config, tmp_path):
    options = {"max_steps": 6, "eval_every": 3, "threads": 1, "dropout": 0.2}
    torch.set_num_threads(1)
    (alone,) = train(make_config(**options))
    config = make_config(**options, output=str(tmp_path / "two"))
    done = torchrun(config, tmp_path)
    assert done.returncode == 0, done.stderr
    assert files_of(config.output / "bundle") == files_of(alone.bundle)
