"""Whether a run may start in a folder, go on in it, or has to stay out."""

import json

import pytest

from propetl.errors import ConfigurationError
from propetl.training.config_file import load_config
from propetl.training.folder import LOCK, RunFolder, check, prepare
from propetl.training.inputs import definitions_of
from propetl.training.same_run import CONFIG, INPUTS
from propetl.training.schedule import Schedule
from propetl.training.settled import settled
from propetl.training.tasks import specs_of


def identity_of(config, **more):
    return {"tasks": definitions_of(specs_of(config.tasks)), **more}


def start(config, identity=None, *, resume=False, overwrite=False):
    identity = identity or identity_of(config)
    folder = check(config, identity, resume=resume, overwrite=overwrite)
    with folder.lock():
        prepare(folder, settled(config, Schedule(5, 6, 1, 2, 3), 2), identity, overwrite=overwrite)
    return folder


def test_a_new_folder_holds_the_configuration(make_config):
    config = make_config()
    folder = start(config)
    written = json.loads((folder.path / CONFIG).read_text())
    assert None not in written.values()
    assert written.items() >= {"learning_rate": 1e-4, "score_learning_rate": 3e-3, "shards": 2, "save_every": 3}.items()
    assert folder.report() is None
    assert folder.newest_checkpoint() is None


def test_the_configuration_that_is_written_can_be_trained_with(make_config):
    """It means the same as the one given: what had no value has none, and tasks known by name are known."""
    config = make_config(tasks={"mood": {"columns": "text", "labels": ["bad", "good"]}, "rte": None}, max_dev_rows=7)
    again = load_config(start(config).path / CONFIG)
    settled_keys = {"learning_rate", "score_learning_rate", "shards", "save_every", "tasks"}
    assert again.model_dump(exclude=settled_keys) == config.model_dump(exclude=settled_keys)
    assert specs_of(again.tasks) == specs_of(config.tasks)
    start(again, resume=True)


def test_checking_writes_nothing(make_config, tmp_path):
    check(make_config(), identity_of(make_config()), resume=False, overwrite=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [CONFIG, "thesis.tex"])
def test_a_taken_folder_is_refused(make_config, content):
    config = make_config()
    config.output.mkdir()
    (config.output / content).write_text("{}")
    with pytest.raises(ConfigurationError, match="exists already; go on with --resume, replace it with --overwrite"):
        start(config)
    assert (config.output / content).read_text() == "{}"


@pytest.mark.parametrize("manner", ["resume", "overwrite"])
def test_a_folder_with_other_things_is_left_alone(make_config, manner):
    config = make_config()
    config.output.mkdir()
    (config.output / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigurationError, match="holds no run"):
        start(config, **{manner: True})
    assert (config.output / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_free(make_config):
    config = make_config()
    config.output.mkdir()
    start(config)


@pytest.mark.parametrize("manner", [{}, {"resume": True}, {"overwrite": True}], ids=str)
@pytest.mark.parametrize("left", [[LOCK], [LOCK, f".{INPUTS}.ab.partial"], [LOCK, INPUTS, f".{CONFIG}.ef.partial"]])
def test_a_folder_whose_run_was_killed_before_it_began_is_free(make_config, left, manner):
    config = make_config()
    config.output.mkdir()
    for name in left:
        (config.output / name).touch()
    assert {path.name for path in start(config, **manner).path.iterdir()} == {LOCK, CONFIG, INPUTS}


def test_a_kill_while_overwriting_leaves_a_folder_that_can_be_overwritten(make_config, monkeypatch):
    folder = start(make_config())
    (folder.path / "train.json").write_text("{}")
    (folder.path / "zebra").touch()

    def killed(path):
        if path.name == "zebra":
            raise KeyboardInterrupt
        path.unlink()

    with monkeypatch.context() as patch:
        patch.setattr("propetl.training.folder._remove", killed)
        with pytest.raises(KeyboardInterrupt):
            start(make_config(), overwrite=True)
    start(make_config(), overwrite=True)
    assert not (folder.path / "zebra").exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_or_link_is_refused(make_config, tmp_path, kind):
    config = make_config()
    if kind == "file":
        config.output.write_text("")
    else:
        (tmp_path / "real").mkdir()
        config.output.symlink_to(tmp_path / "real")
    with pytest.raises(ConfigurationError, match="is a file or a link"):
        start(config, overwrite=True)


def test_overwriting_empties_the_folder(make_config, tmp_path):
    config = make_config()
    folder = start(config)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (folder.path / "bundle").mkdir()
    (folder.path / "link").symlink_to(elsewhere)
    (folder.path / "train.json").write_text("{}")
    start(make_config(seed=7), overwrite=True)
    assert {path.name for path in folder.path.iterdir()} == {LOCK, CONFIG, INPUTS}
    assert (elsewhere / "kept").exists()


def test_resuming_without_a_run_starts_one(make_config):
    assert (start(make_config(), resume=True).path / CONFIG).exists()


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"seed": 9}, "seed"), ({"prototype__sparsity": 0.3}, "prototype"), ({"tasks": ["mood"]}, "tasks")],
)
def test_resuming_with_another_configuration_is_refused(make_config, changes, key):
    start(make_config())
    with pytest.raises(ConfigurationError, match=f"--resume: {key} is .* was started with"):
        start(make_config(**changes), resume=True)


def test_resuming_for_another_bundle_is_refused(make_config):
    start(make_config())
    with pytest.raises(ConfigurationError, match="--resume: add_to is"):
        start(make_config(), identity_of(make_config(), add_to={"bundle": "b"}), resume=True)


def test_resuming_elsewhere_or_with_other_threads(make_config, tmp_path):
    folder = start(make_config())
    folder.path.rename(tmp_path / "moved")
    start(make_config(output=str(tmp_path / "moved"), threads=1, tensorboard=True, log_every=7), resume=True)


@pytest.mark.parametrize("name", [CONFIG, INPUTS])
@pytest.mark.parametrize("content", ["{", "[1]", "{}", "[" * 99_999, '{"steps": 1, "tasks": {"mood": 3, "topic": 3}}'])
def test_a_damaged_file_is_named(make_config, name, content):
    folder = start(make_config())
    (folder.path / name).write_text(content)
    with pytest.raises(ConfigurationError, match=rf"{name}.*damaged|--resume: .* was started with None"):
        start(make_config(), resume=True)


def test_a_run_of_other_steps_is_not_gone_on_with(make_config):
    folder = start(make_config())
    values = json.loads((folder.path / INPUTS).read_text())
    (folder.path / INPUTS).write_text(json.dumps({**values, "steps": values["steps"] + 1}))
    with pytest.raises(ConfigurationError, match="a version of propetl that trains otherwise"):
        start(make_config(), resume=True)


def test_resuming_removes_what_a_kill_left(make_config):
    config = make_config()
    folder = start(config)
    leftovers = [
        folder.checkpoints / "checkpoint-4",
        folder.path / ".bundle.ab.partial",
        folder.path / ".bundle.cd.replaced",
    ]
    for path in leftovers:
        path.mkdir(parents=True)
    half = folder.path / ".train.json.ab.partial"
    half.write_text("{")
    start(config, resume=True)
    assert not any(path.exists() for path in [*leftovers, half])


def test_two_runs_cannot_share_a_folder(make_config, tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.lock(), pytest.raises(ConfigurationError, match="another run is training in this folder"):
        folder.lock()
    folder.lock().close()
