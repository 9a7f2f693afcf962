"""One more task over the prototype of a bundle that is there."""

import json
import shutil

import numpy as np
import pytest

from propetl.bundle import read_bundle
from propetl.errors import ConfigurationError, TaskError
from propetl.training import fit as fit_module
from propetl.training.run import train
from tests.propetl.training.conftest import HYBRID, TASKS, Killed, files_of, kill


@pytest.fixture
def bundle(make_config, tmp_path):
    (result,) = train(make_config(output=str(tmp_path / "first")))
    return result.bundle


def test_nothing_else_changes_by_a_byte(make_config, bundle):
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
    assert entry.pop("content_sha256") != described.pop("content_sha256")
    assert entry == described


def test_the_new_task_learns(make_config, bundle, tmp_path):
    """Only its own masks and head move, and they do."""
    options = {"tasks": ["degree"], "score_learning_rate": 0.3, "learning_rate": 0.1}
    shutil.copytree(bundle, tmp_path / "copy")
    train(make_config(**options, max_steps=1, warmup_ratio=1), add_to=bundle)  # its only step has rate 0
    train(make_config(**options, output=str(tmp_path / "more"), max_steps=30), add_to=tmp_path / "copy")
    fresh, learnt = (read_bundle(path).packs["degree"] for path in (bundle, tmp_path / "copy"))
    assert not np.array_equal(fresh.masks["up.weight"], learnt.masks["up.weight"])
    assert not np.array_equal(fresh.head["weight"], learnt.head["weight"])


def test_an_added_task_starts_from_scores_of_its_own(make_config, bundle):
    train(make_config(tasks=["degree"], max_steps=1), add_to=bundle)
    packs = read_bundle(bundle).packs
    assert not np.array_equal(packs["degree"].masks["up.weight"], packs["mood"].masks["up.weight"])


def test_over_hybrid_masks_one_mask_is_learnt(make_config, tmp_path):
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
def test_a_further_language_is_refused(make_config, tmp_path, language):
    (first,) = train(make_config(**HYBRID, output=str(tmp_path / "hybrid"), max_steps=1))
    task = TASKS["degree"] if language is None else {**TASKS["degree"], "language": language}
    config = make_config(**{**HYBRID, "tasks": {"degree": task}})
    with pytest.raises(ConfigurationError, match=f"'degree': its language is {language!r}.* masks for: de, en"):
        train(config, add_to=first.bundle)
    assert not config.output.exists()


@pytest.mark.parametrize("name", ["best_evaluation", "report_json"])
def test_killed_before_or_after_adding_it_ends_as_undisturbed(make_config, bundle, tmp_path, monkeypatch, name):
    shutil.copytree(bundle, tmp_path / "copy")
    train(make_config(tasks=["degree"], output=str(tmp_path / "other")), add_to=tmp_path / "copy")
    config = make_config(tasks=["degree"])
    with monkeypatch.context() as patch:
        patch.setattr(fit_module, name, kill)
        with pytest.raises(Killed):
            train(config, add_to=bundle)
    (resumed,) = train(config, add_to=bundle, resume=True)
    assert files_of(bundle) == files_of(tmp_path / "copy")
    assert not resumed.finished_before


def test_another_task_of_that_name_meanwhile_is_not_touched(make_config, bundle, tmp_path, monkeypatch):
    config = make_config(tasks=["degree"])
    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "best_evaluation", kill)
        with pytest.raises(Killed):
            train(config, add_to=bundle)
    train(make_config(tasks=["degree"], seed=5, output=str(tmp_path / "other")), add_to=bundle)
    before = files_of(bundle)
    with pytest.raises(TaskError, match="with other contents; nothing was changed"):
        train(config, add_to=bundle, resume=True)
    assert files_of(bundle) == before


def test_a_known_task_is_refused_before_a_run_folder_is_made(make_config, bundle):
    config = make_config(tasks=["mood"])
    with pytest.raises(TaskError, match="'mood' is in"):
        train(config, add_to=bundle)
    assert not config.output.exists()
