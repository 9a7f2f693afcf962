"""New bundles, and tasks added to one that is there."""

from typing import Any

import pytest

from propetl.bundle import read_bundle, write_bundle
from propetl.errors import ConfigurationError, TaskError
from propetl.prototypes.spec import PrototypeConfig
from propetl.training.target import AddedTask, own_seed, settled_by, with_languages
from tests.tiny_bundle import random_contents


@pytest.fixture
def bundle(tmp_path):
    contents = random_contents(PrototypeConfig(bottleneck=4, sparsity=0.25), head="own")
    write_bundle(tmp_path / "bundle", contents)
    return read_bundle(tmp_path / "bundle")


def test_what_the_configuration_leaves_out_is_the_bundles(make_config, bundle):
    values = make_config().model_dump(exclude_unset=True, exclude={"prototype", "max_length", "head"})
    config = type(make_config()).model_validate(values)
    settled = settled_by(config, bundle)
    assert (settled.prototype, settled.head, settled.max_length) == (bundle.info.prototype, "own", 24)
    assert settled.batch_size == config.batch_size


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, r"prototype\.sparsity is 0\.5, but .* was trained with 0\.25; leave prototype out"),
        ({"prototype__sparsity": 0.25, "prototype__bottleneck": 5}, r"prototype\.bottleneck is 5"),
        ({"prototype__sparsity": 0.25, "head": "linear"}, "head is 'linear', but .* with 'own'"),
        ({"prototype__sparsity": 0.25, "max_length": 25}, "max_length is 25"),
    ],
)
def test_what_it_asks_for_otherwise_is_refused(make_config, bundle, changes, part):
    with pytest.raises(ConfigurationError, match=f"^--add-to: {part}"):
        settled_by(make_config(**changes), bundle)


def test_languages_are_those_of_the_tasks(make_config):
    tasks: dict[str, Any] = {
        "b": {"columns": "text", "labels": ["x", "y"], "language": "en"},
        "rte": {"language": "de"},
    }
    tasks["a"] = {**tasks["b"]}
    config = make_config(tasks=tasks, prototype__masks="hybrid")
    assert with_languages(config).prototype.languages == ("en", "de")
    assert with_languages(make_config()) == make_config()
    for changes in ({"tasks": {**tasks, "mrpc": None}}, {"prototype__languages": ["en"]}):
        with pytest.raises(ConfigurationError, match="its language is"):
            with_languages(make_config(**{"tasks": tasks, "prototype__masks": "hybrid", **changes}))


def test_the_languages_of_a_bundle_need_not_be_named_again(make_config, tmp_path):
    prototype = PrototypeConfig(bottleneck=4, masks="hybrid", languages=("de", "en"))
    write_bundle(tmp_path / "spoken", random_contents(prototype))
    bundle = read_bundle(tmp_path / "spoken")
    settled = settled_by(make_config(prototype__masks="hybrid", max_length=24), bundle)
    assert settled.prototype == prototype
    with pytest.raises(ConfigurationError, match=r"prototype\.languages is \['de'\]"):
        settled_by(make_config(prototype__masks="hybrid", prototype__languages=["de"], max_length=24), bundle)


def test_several_tasks_are_refused(make_config, bundle):
    with pytest.raises(ConfigurationError, match="adds one task, got mood, topic; choose one with --task"):
        AddedTask(make_config(), bundle.path, fresh=True)


def test_a_task_that_is_there_is_refused(make_config, bundle):
    config = make_config(tasks={"first": {"columns": "text", "labels": ["a", "b"]}}, prototype__sparsity=0.25)
    with pytest.raises(TaskError, match=r"'first' is in .* already"):
        AddedTask(config, bundle.path, fresh=True)


def test_a_resumed_run_sees_the_bundle_without_its_task(make_config, bundle):
    config = make_config(tasks={"first": {"columns": "text", "labels": ["a", "b"]}}, prototype__sparsity=0.25)
    target = AddedTask(config, bundle.path, fresh=False)
    assert set(target.bundle.packs) == set(target.bundle.info.tasks) == {"second"}
    assert target.identity["add_to"]["prototype_sha256"] == bundle.prototype_sha256


def test_seeds_of_added_tasks_differ():
    seeds = {own_seed(seed, task) for seed in (1, 2) for task in ("a", "b")}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert own_seed(1, "a") == own_seed(1, "a")
