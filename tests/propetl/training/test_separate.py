"""A bundle of its own for each task of a configuration."""

import shutil

import pytest

from propetl.bundle import read_bundle
from propetl.errors import ConfigurationError
from propetl.training.run import train
from tests.propetl.training.conftest import files_of


def test_a_bundle_per_task(make_config):
    config = make_config()
    results = train(config, separate=True)
    assert [result.output for result in results] == [config.output / "mood", config.output / "topic"]
    for task, result in zip(("mood", "topic"), results, strict=True):
        assert set(read_bundle(result.bundle).packs) == {task}


def test_each_is_what_the_task_alone_gives(make_config, tmp_path):
    separate = train(make_config(), separate=True)[1]
    (alone,) = train(make_config(tasks=["topic"], output=str(tmp_path / "alone")))
    assert files_of(separate.bundle) == files_of(alone.bundle)


def test_a_finished_task_is_not_trained_again(make_config):
    config = make_config()
    first = train(config, separate=True)
    shutil.rmtree(first[1].output)
    again = train(config, separate=True, resume=True)
    assert [result.finished_before for result in again] == [True, False]
    assert [result.scores for result in again] == [result.scores for result in first]


def test_a_taken_folder_is_found_before_the_first_task_trains(make_config):
    config = make_config()
    (config.output / "topic").mkdir(parents=True)
    (config.output / "topic" / "x").touch()
    with pytest.raises(ConfigurationError, match="topic exists already"):
        train(config, separate=True)
    assert [path.name for path in config.output.iterdir()] == ["topic"]
