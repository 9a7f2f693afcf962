"""From a configuration to a bundle, in one process: joint, separate, added, resumed."""

import io
import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from propetl.bits import count_ones
from propetl.bundle import read_bundle
from propetl.errors import BackendError, ConfigurationError, TaskError
from propetl.model import ProPETLModel
from propetl.training import run as run_module
from propetl.training import trainer as trainer_module
from propetl.training.run import train
from tests.propetl.training.conftest import DEV_ROWS, TASKS, files_of, small_config


class Killed(BaseException):
    """Stands for SIGKILL where one process is enough; test_kill.py sends the real one."""


def bundle_of(config, **manner):
    (result,) = train(config, **manner)
    return read_bundle(result.bundle)


HYBRID: dict[str, Any] = {
    "tasks": {"mood": {**TASKS["mood"], "language": "de"}, "topic": {**TASKS["topic"], "language": "en"}},
    "prototype": {"bottleneck": 4, "masks": "hybrid", "sparsity": 0.3},
    "temperature": 10,
    "label_smoothing": 0.1,
}

METHODS = {
    "adapter": {"bottleneck": 4},
    "houlsby": {"bottleneck": 4, "sites": ["attention", "ffn"]},
    "lora": {"method": "lora", "rank": 2},
    "prefix": {"method": "prefix", "prefix_length": 3, "prefix_hidden": 5},
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


INTERRUPTED = {"max_steps": 11, "eval_every": 3, "save_every": 2, "batch_size": 10, "dropout": 0.2}


@pytest.fixture(scope="module")
def undisturbed(backbone_folder, data_folder, tmp_path_factory):
    """What an interrupted run has to come to."""
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    places = {"backbone": backbone_folder, "data": data_folder, "output": output}
    torch.set_num_threads(1)
    (result,) = train(small_config(places, **INTERRUPTED))
    return result


class TestResume:
    def test_a_run_that_has_ended_is_left_as_it_is(self, make_config):
        config = make_config()
        (first,) = train(config)
        before = files_of(config.output)
        console = Console(file=io.StringIO(), width=100)
        (again,) = train(config, resume=True, console=console)
        assert "has ended already" in console.file.getvalue()
        assert again.finished_before
        assert (again.scores, again.bundle, again.best_step) == (first.scores, first.bundle, first.best_step)
        assert files_of(config.output) == before

    def test_without_resume_it_is_refused(self, make_config):
        config = make_config()
        train(config)
        before = files_of(config.output)
        with pytest.raises(ConfigurationError, match="exists already"):
            train(config)
        assert files_of(config.output) == before

    def test_overwriting(self, make_config):
        train(make_config(seed=1))
        before = files_of(make_config().output / "bundle")
        train(make_config(seed=2), overwrite=True)
        assert files_of(make_config().output / "bundle") != before

    @pytest.mark.parametrize(
        ("module", "name", "call"),
        [
            (trainer_module, "save_file", 1),
            (trainer_module, "save_file", 3),
            (trainer_module, "mark_complete", 1),
            (trainer_module, "mark_complete", 4),
            (trainer_module, "rotate", 2),
            (trainer_module, "evaluate_tasks", 2),
            (run_module, "at_step", 1),
            (run_module, "report_json", 1),
        ],
    )
    @pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
    def test_killed_anywhere_it_ends_as_undisturbed(
        self, make_config, undisturbed, monkeypatch, module, name, call, before
    ):
        """Dropout is on, and the kill hits within an epoch, at its end, and while writing."""
        config = make_config(**INTERRUPTED)
        calls, real = [], getattr(module, name)

        def killing(*arguments, **keywords):
            calls.append(name)
            if before and len(calls) == call:
                raise Killed
            result = real(*arguments, **keywords)
            if len(calls) == call:
                raise Killed
            return result

        with monkeypatch.context() as patch:
            patch.setattr(module, name, killing)
            with pytest.raises(Killed):
                train(config)
        (resumed,) = train(config, resume=True)
        assert files_of(resumed.bundle) == files_of(undisturbed.bundle)
        assert resumed.scores == undisturbed.scores
        assert _losses(resumed) == _losses(undisturbed)

    @pytest.mark.parametrize(("module", "name"), [(trainer_module, "evaluate_tasks"), (trainer_module, "rotate")])
    def test_hybrid_masks_at_a_temperature_go_on_as_undisturbed(self, make_config, tmp_path, monkeypatch, module, name):
        options = {**INTERRUPTED, **HYBRID}
        (undisturbed,) = train(make_config(**options, output=str(tmp_path / "undisturbed")))
        config, calls, real = make_config(**options), [], getattr(module, name)

        def killing(*arguments, **keywords):
            calls.append(name)
            if len(calls) == 2:
                raise Killed
            return real(*arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, killing)
            with pytest.raises(Killed):
                train(config)
        (resumed,) = train(config, resume=True)
        assert files_of(resumed.bundle) == files_of(undisturbed.bundle)
        assert _losses(resumed) == _losses(undisturbed)

    def test_early_stopping_counts_over_the_kill(self, make_config, tmp_path, monkeypatch):
        options = {
            "max_steps": 12,
            "eval_every": 1,
            "early_stopping_patience": 2,
            "learning_rate": 1e-9,
            "score_learning_rate": 1e-9,
        }
        (undisturbed,) = train(make_config(**options, output=str(tmp_path / "undisturbed")))
        assert undisturbed.steps == 3
        config = make_config(**options)
        with monkeypatch.context() as patch:
            patch.setattr(run_module, "best_evaluation", _kill)
            with pytest.raises(Killed):
                train(config)
        (resumed,) = train(config, resume=True)
        assert (resumed.steps, resumed.best_step) == (3, 1)

    def test_a_lost_best_checkpoint_is_named(self, make_config, monkeypatch):
        config = make_config()
        with monkeypatch.context() as patch:
            patch.setattr(run_module, "best_evaluation", _kill)
            with pytest.raises(Killed):
                train(config)
        monkeypatch.setattr(run_module, "best_evaluation", lambda state: {"step": 1})
        with pytest.raises(ConfigurationError, match="checkpoint-1 is missing or damaged"):
            train(config, resume=True)


def _kill(*_):
    raise Killed


def _losses(result):
    entries = [json.loads(line) for line in (result.output / "log.jsonl").read_text().splitlines()]
    return [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]


class TestSeparate:
    def test_a_bundle_per_task(self, make_config):
        config = make_config()
        results = train(config, separate=True)
        assert [result.output for result in results] == [config.output / "mood", config.output / "topic"]
        for task, result in zip(("mood", "topic"), results, strict=True):
            assert set(read_bundle(result.bundle).packs) == {task}

    def test_each_is_what_the_task_alone_gives(self, make_config, tmp_path):
        separate = train(make_config(), separate=True)[1]
        (alone,) = train(make_config(tasks=["topic"], output=str(tmp_path / "alone")))
        assert files_of(separate.bundle) == files_of(alone.bundle)

    def test_a_finished_task_is_not_trained_again(self, make_config):
        config = make_config()
        first = train(config, separate=True)
        shutil.rmtree(first[1].output)
        again = train(config, separate=True, resume=True)
        assert [result.finished_before for result in again] == [True, False]
        assert [result.scores for result in again] == [result.scores for result in first]

    def test_a_taken_folder_is_found_before_the_first_task_trains(self, make_config):
        config = make_config()
        (config.output / "topic").mkdir(parents=True)
        (config.output / "topic" / "x").touch()
        with pytest.raises(ConfigurationError, match="topic exists already"):
            train(config, separate=True)
        assert [path.name for path in config.output.iterdir()] == ["topic"]


class TestAddTo:
    @pytest.fixture
    def bundle(self, make_config, tmp_path):
        (result,) = train(make_config(output=str(tmp_path / "first")))
        return result.bundle

    def test_nothing_else_changes_by_a_byte(self, make_config, bundle):
        before = files_of(bundle)
        described = json.loads(before["bundle.json"])
        (result,) = train(make_config(tasks=["degree"]), add_to=bundle)
        after = files_of(bundle)
        assert result.bundle == bundle
        assert set(after) - set(before) == {"tasks/degree.safetensors", "tasks/degree.samples.safetensors"}
        assert {name for name in before if before[name] != after[name]} == {"bundle.json"}
        entry = json.loads(after["bundle.json"])
        assert entry["tasks"].pop("degree")["scores"] == result.scores["degree"]
        for name in ("tasks/degree.safetensors", "tasks/degree.samples.safetensors"):
            del entry["files"][name]
        assert entry == described

    def test_the_new_task_learns(self, make_config, bundle, tmp_path):
        """Only its own masks and head move, and they do."""
        options = {"tasks": ["degree"], "score_learning_rate": 0.3, "learning_rate": 0.1}
        shutil.copytree(bundle, tmp_path / "copy")
        train(make_config(**options, max_steps=1, warmup_ratio=1), add_to=bundle)  # its only step has rate 0
        train(make_config(**options, output=str(tmp_path / "more"), max_steps=30), add_to=tmp_path / "copy")
        fresh, learnt = (read_bundle(path).packs["degree"] for path in (bundle, tmp_path / "copy"))
        assert not np.array_equal(fresh.masks["up.weight"], learnt.masks["up.weight"])
        assert not np.array_equal(fresh.head["weight"], learnt.head["weight"])

    def test_an_added_task_starts_from_scores_of_its_own(self, make_config, bundle):
        train(make_config(tasks=["degree"], max_steps=1), add_to=bundle)
        packs = read_bundle(bundle).packs
        assert not np.array_equal(packs["degree"].masks["up.weight"], packs["mood"].masks["up.weight"])

    def test_over_hybrid_masks_one_mask_is_learnt(self, make_config, tmp_path):
        """Layer masks and prototype stay; the task takes the masks of a language that is there."""
        config = make_config(**HYBRID, output=str(tmp_path / "hybrid"))
        (first,) = train(config)
        before = files_of(first.bundle)
        tasks = {"degree": {**TASKS["degree"], "language": "en"}}
        options = {**HYBRID, "tasks": tasks, "learning_rate": 0.1, "score_learning_rate": 0.3}
        train(make_config(**options), add_to=first.bundle)
        after = files_of(first.bundle)
        assert {name for name in before if before[name] != after[name]} == {"bundle.json"}
        bundle = read_bundle(first.bundle)
        assert bundle.info.tasks["degree"].language == "en"
        assert {mask.shape for mask in bundle.packs["degree"].masks.values()} == {(16,)}

    @pytest.mark.parametrize("language", [None, "fr"])
    def test_a_further_language_is_refused(self, make_config, tmp_path, language):
        (first,) = train(make_config(**HYBRID, output=str(tmp_path / "hybrid"), max_steps=1))
        task = TASKS["degree"] if language is None else {**TASKS["degree"], "language": language}
        config = make_config(**{**HYBRID, "tasks": {"degree": task}})
        with pytest.raises(ConfigurationError, match=f"'degree': its language is {language!r}.* masks for: de, en"):
            train(config, add_to=first.bundle)
        assert not config.output.exists()

    @pytest.mark.parametrize("name", ["best_evaluation", "report_json"])
    def test_killed_before_or_after_adding_it_ends_as_undisturbed(
        self, make_config, bundle, tmp_path, monkeypatch, name
    ):
        shutil.copytree(bundle, tmp_path / "copy")
        train(make_config(tasks=["degree"], output=str(tmp_path / "other")), add_to=tmp_path / "copy")
        config = make_config(tasks=["degree"])
        with monkeypatch.context() as patch:
            patch.setattr(run_module, name, _kill)
            with pytest.raises(Killed):
                train(config, add_to=bundle)
        (resumed,) = train(config, add_to=bundle, resume=True)
        assert files_of(bundle) == files_of(tmp_path / "copy")
        assert not resumed.finished_before

    def test_another_task_of_that_name_meanwhile_is_not_touched(self, make_config, bundle, tmp_path, monkeypatch):
        config = make_config(tasks=["degree"])
        with monkeypatch.context() as patch:
            patch.setattr(run_module, "best_evaluation", _kill)
            with pytest.raises(Killed):
                train(config, add_to=bundle)
        train(make_config(tasks=["degree"], seed=5, output=str(tmp_path / "other")), add_to=bundle)
        before = files_of(bundle)
        with pytest.raises(TaskError, match="with other contents; nothing was changed"):
            train(config, add_to=bundle, resume=True)
        assert files_of(bundle) == before

    def test_a_known_task_is_refused_before_a_run_folder_is_made(self, make_config, bundle):
        config = make_config(tasks=["mood"])
        with pytest.raises(TaskError, match="'mood' is in"):
            train(config, add_to=bundle)
        assert not config.output.exists()


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
