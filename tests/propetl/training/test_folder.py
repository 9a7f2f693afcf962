"""Whether a run may start in a folder, go on in it, or has to stay out."""

import json

import pytest

from propetl.errors import ConfigurationError
from propetl.training.folder import CONFIG, LOCK, RunFolder, check, prepare

ALONE = {"add_to": None}


def start(config, identity=ALONE, *, resume=False, overwrite=False):
    folder = check(config, identity, resume=resume, overwrite=overwrite)
    with folder.lock():
        prepare(folder, config, identity, overwrite=overwrite)
    return folder


def test_a_new_folder_holds_the_configuration(make_config):
    config = make_config()
    folder = start(config)
    assert json.loads((folder.path / CONFIG).read_text()) == {**config.to_json(), **ALONE}
    assert folder.report() is None
    assert folder.newest_checkpoint() is None


def test_checking_writes_nothing(make_config, tmp_path):
    check(make_config(), ALONE, resume=False, overwrite=True)
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


def test_a_folder_with_a_lock_alone_is_free(make_config):
    """A run was killed before it wrote anything."""
    config = make_config()
    config.output.mkdir()
    (config.output / LOCK).touch()
    start(config)


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
    assert {path.name for path in folder.path.iterdir()} == {LOCK, CONFIG}
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
        start(make_config(), {"add_to": {"bundle": "b"}}, resume=True)


def test_resuming_elsewhere_or_with_other_threads(make_config, tmp_path):
    folder = start(make_config())
    folder.path.rename(tmp_path / "moved")
    start(make_config(output=str(tmp_path / "moved"), threads=1, tensorboard=True, log_every=7), resume=True)


def test_a_damaged_configuration_is_named(make_config):
    folder = start(make_config())
    (folder.path / CONFIG).write_text("{")
    with pytest.raises(ConfigurationError, match=f"{CONFIG} is damaged"):
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
    start(config, resume=True)
    assert not any(path.exists() for path in leftovers)


def test_two_runs_cannot_share_a_folder(make_config, tmp_path):
    folder = RunFolder(tmp_path / "run")
    with folder.lock(), pytest.raises(ConfigurationError, match="another run is training in this folder"):
        folder.lock()
    folder.lock().close()
