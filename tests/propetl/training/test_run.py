"""From a configuration to a bundle, in one process: all tasks jointly."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from propetl.bits import count_ones
from propetl.bundle import read_bundle
from propetl.errors import BackendError, ConfigurationError
from propetl.model import ProPETLModel
from propetl.training import trainer as trainer_module
from propetl.training.run import train
from tests.propetl.training.conftest import DEV_ROWS, HYBRID, TASKS, files_of


def bundle_of(config, **manner):
    (result,) = train(config, **manner)
    return read_bundle(result.bundle)


METHODS = {
    "adapter": {"bottleneck": 4},
    "houlsby": {"bottleneck": 4, "sites": ["attention", "ffn"]},
    "lora": {"method": "lora", "rank": 2},
    "prefix": {"method": "prefix", "prefix_length": 3, "prefix_hidden": 5},
    "ia3": {"method": "ia3"},
    "unshared adapter": {"bottleneck": 4, "sharing": "unshared"},
    "unshared lora": {"method": "lora", "rank": 2, "sharing": "unshared"},
    "unshared prefix": {"method": "prefix", "prefix_length": 3, "prefix_hidden": 5, "sharing": "unshared"},
    "head": {"method": "head"},
    "hybrid adapter": {"bottleneck": 4, "masks": "hybrid"},
    "hybrid lora": {"method": "lora", "rank": 2, "masks": "hybrid", "combine": "add"},
    "hybrid prefix": {
        "method": "prefix", "prefix_length": 3, "prefix_hidden": 5, "sparsity": 0.5, "masks": "hybrid", "combine": "and"
    },
    "layers' masks": {"bottleneck": 4, "masks": "only-layers"},
    "tasks' masks": {"method": "lora", "rank": 2, "masks": "only-tasks"},
    "sparse adapter": {"bottleneck": 4, "sharing": "sparse"},
    "sharing without masks": {"bottleneck": 4, "sparsity": 1.0},
}  # fmt: skip


@pytest.mark.parametrize("prototype", METHODS.values(), ids=METHODS)
def test_every_method_leaves_a_bundle_that_does_what_was_trained(make_config, bert, prototype):
    config = make_config(prototype=prototype, tasks=("mood", "degree"), learning_rate=0.01, dropout=0.0)
    bundle = bundle_of(config)
    layout = bundle.info.layout
    for name, mask in [item for pack in bundle.packs.values() for item in pack.masks.items()]:
        size = {tensor.name: tensor.size for tensor in layout.masked_tensors}[name]
        assert (count_ones(mask) == size - int((1 - layout.config.sparsity) * size)).all()
    model = ProPETLModel.from_bundle(bundle, bert)
    for task in ("mood", "degree"):
        found = scores_by_hand(model, bundle, task, config)
        assert found == pytest.approx(bundle.info.tasks[task].scores, abs=1e-5)


def scores_by_hand(model, bundle, task, config):
    from propetl.training.evaluate import evaluate_tasks
    from propetl.training.processes import Processes
    from propetl.training.tasks import load_tasks, tokenizer_of

    tasks = [item for item in load_tasks(config, tokenizer_of(model.backbone)) if item.spec.name == task]
    assert len(tasks[0].dev) == DEV_ROWS
    return evaluate_tasks(model, tasks, 5, Processes())[task]


def test_full_fine_tuning_of_one_task(make_config):
    bundle = bundle_of(make_config(prototype={"method": "full"}, tasks=["mood"], max_steps=2))
    assert bundle.packs["mood"].weights


def test_full_fine_tuning_of_two_is_refused_before_anything_is_written(make_config, tmp_path):
    with pytest.raises(ConfigurationError, match="--separate"):
        train(make_config(prototype={"method": "full"}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "prototype", [{"bottleneck": 8}, {"method": "lora", "rank": 8, "sparsity": 0.5}], ids=["adapter", "lora"]
)
def test_training_learns_an_easy_task(make_config, prototype):
    config = make_config(
        prototype=prototype,
        tasks=["mood"],
        max_steps=60,
        eval_every=20,
        learning_rate=0.02,
        score_learning_rate=0.05,
    )
    (result,) = train(config)
    assert result.scores["mood"]["accuracy"] >= 0.9


def test_the_run_folder(make_config):
    config = make_config(tensorboard=True, max_steps=4)
    (result,) = train(config)
    report = json.loads((result.output / "train.json").read_text())
    assert report["scores"] == result.scores
    assert report["steps"] == 4
    assert report["conditions"]["rows"]["mood"] == {"train": 52, "dev": DEV_ROWS}
    assert report["conditions"]["shards"] == 2
    assert report["conditions"]["batches_per_epoch"] == {"mood": 7, "topic": 4}
    entries = [json.loads(line) for line in (result.output / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "loss" in entry] == [1, 2, 3, 4]
    assert list((result.output / "tensorboard").iterdir())
    assert read_bundle(result.bundle).samples("mood")["input_ids"].shape[0] == 8


def test_the_bundle_is_that_of_the_best_step(make_config, monkeypatch):
    averages = iter([0.2, 0.9, 0.4])
    real = trainer_module.eval_log
    monkeypatch.setattr(trainer_module, "eval_log", lambda *values: {**real(*values), "eval_average": next(averages)})
    (result,) = train(make_config())
    assert (result.best_step, result.steps, result.average) == (4, 6, 0.9)
    saved = load_file(result.output / "checkpoints" / "checkpoint-4" / "model.safetensors")
    bundle = read_bundle(result.bundle)
    assert np.array_equal(bundle.packs["mood"].head["bias"], saved["heads.task:mood.out.bias"].numpy())


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(make_config, tmp_path):
    bundles = []
    for place, seed in enumerate((1, 1, 2)):
        torch.manual_seed(place)  # what ran before does not matter
        (result,) = train(make_config(seed=seed, output=str(tmp_path / str(place))))
        bundles.append(files_of(result.bundle))
    assert bundles[0] == bundles[1]
    assert bundles[0]["tasks/mood.safetensors"] != bundles[2]["tasks/mood.safetensors"]


@pytest.mark.parametrize(
    ("manner", "part"),
    [
        ({"resume": True, "overwrite": True}, "--resume and --overwrite"),
        ({"separate": True, "add_to": "bundle"}, "--separate and --add-to"),
    ],
)
def test_manners_that_exclude_each_other(make_config, manner, part):
    with pytest.raises(ConfigurationError, match=part):
        train(make_config(), **manner)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"tasks": {"mystery": None}}, "'mystery' has no definition"),
        ({"data": "/nowhere"}, "/nowhere is not there"),
        ({"backbone": "/nowhere"}, "backbone '/nowhere' cannot be loaded"),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
        ({"shards": 3}, "shards: 3 has to divide batch_size"),
        ({"tasks": HYBRID["tasks"]}, "languages need masks: hybrid"),
        ({**HYBRID, "tasks": {**HYBRID["tasks"], "degree": TASKS["degree"]}}, "task 'degree': its language is None"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(make_config, tmp_path, changes, part):
    with pytest.raises(ConfigurationError, match=part):
        train(make_config(**changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error(make_config):
    with pytest.raises(BackendError, match="finds no CUDA GPU; use device: cpu"):
        train(make_config(device="cuda"))


def test_bf16_on_the_cpu(make_config):
    (result,) = train(make_config(precision="bf16", max_steps=2))
    assert read_bundle(result.bundle).prototype["up.weight"].dtype == np.float32


def test_divergence_is_told(make_config):
    with pytest.raises(ConfigurationError, match=r"training diverged; lower the learning rate"):
        train(make_config(learning_rate=1e38, weight_decay=0, max_steps=20))
