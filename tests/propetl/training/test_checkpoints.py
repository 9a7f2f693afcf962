"""Only what was written to the end counts."""

import json

import pytest

from propetl.errors import ConfigurationError
from propetl.training import checkpoints
from propetl.training.checkpoints import (
    MARKER,
    STATE,
    at_step,
    complete_checkpoints,
    mark_complete,
    remove_incomplete,
    rotate,
    write_checkpoint,
)


def state(step, **changes):
    """As transformers writes it, which knows NaN."""
    return {"global_step": step, "best_global_step": None, "log_history": [{"step": 1, "loss": 0.5}]} | changes


def write(folder, step, *, complete=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "model.safetensors").write_bytes(bytes(100))
    (path / STATE).write_text(json.dumps(state(step)))
    if complete:
        mark_complete(path)
    return path


def steps(folder):
    return [checkpoint.step for checkpoint in complete_checkpoints(folder)]


def test_oldest_first_by_number(tmp_path):
    for step in (100, 9, 20):
        write(tmp_path, step)
    assert steps(tmp_path) == [9, 20, 100]
    assert complete_checkpoints(tmp_path)[-1].state() == state(100)


def test_no_folder_no_checkpoints(tmp_path):
    assert steps(tmp_path / "none") == []


@pytest.mark.parametrize(
    "damage", ["unmarked", "truncated", "file missing", "marker truncated", "marker of another kind"]
)
def test_what_is_not_whole_is_passed_over_and_removed(tmp_path, damage):
    write(tmp_path, 1)
    path = write(tmp_path, 2, complete=damage != "unmarked")
    if damage == "truncated":
        (path / "model.safetensors").write_bytes(bytes(99))
    if damage == "file missing":
        (path / "model.safetensors").unlink()
    if damage == "marker truncated":
        (path / MARKER).write_text('{"files": {"mod')
    if damage == "marker of another kind":
        (path / MARKER).write_text("[1]")
    assert steps(tmp_path) == [1]
    remove_incomplete(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["checkpoint-1"]


def test_other_folders_are_left_alone(tmp_path):
    for name in ("checkpoint-", "checkpoint-x", "my-checkpoint-3", "checkpoint-3.old"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-4").write_text("a file")
    remove_incomplete(tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def test_rotation_keeps_what_is_named(tmp_path):
    for step in (1, 2, 3, 4):
        write(tmp_path, step)
    rotate(tmp_path, keep={2, 4})
    assert steps(tmp_path) == [2, 4]


def test_a_kill_while_removing_leaves_nothing_that_looks_complete(tmp_path, monkeypatch):
    write(tmp_path, 1)
    write(tmp_path, 2)

    def killed(path):
        (path / "trainer_state.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        rotate(tmp_path, keep={2})
    assert steps(tmp_path) == [2]


def test_a_checkpoint_is_whole_or_absent(tmp_path):
    """One that is written again stays as it was until the new one is whole."""
    write_checkpoint(tmp_path, 3, [("a", b"1"), ("b", b"22")])

    def broken():
        yield "a", b"3"
        raise OSError(28, "No space left on device")

    for step in (3, 4):
        with pytest.raises(OSError, match="No space left"):
            write_checkpoint(tmp_path, step, broken())
    assert steps(tmp_path) == [3]
    assert (tmp_path / "checkpoint-3" / "a").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]
    write_checkpoint(tmp_path, 3, [("a", b"3")])
    assert {path.name for path in complete_checkpoints(tmp_path)[0].path.iterdir()} == {"a", MARKER}


def test_what_a_kill_while_writing_left_is_removed(tmp_path):
    write(tmp_path, 1)
    (tmp_path / ".checkpoint-2.ab.partial").mkdir()
    (tmp_path / ".checkpoint-1.cd.replaced").mkdir()
    remove_incomplete(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]


def test_a_missing_step_is_named(tmp_path):
    write(tmp_path, 1)
    assert at_step(tmp_path, 1).path == tmp_path / "checkpoint-1"
    with pytest.raises(ConfigurationError, match="checkpoint-2 is missing"):
        at_step(tmp_path, 2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"[1]",
        b"{}",
        json.dumps(state(1, global_step="1")).encode(),
        json.dumps(state(1, global_step=-1)).encode(),
        json.dumps(state(1, best_global_step=True)).encode(),
        json.dumps(state(1, log_history=None)).encode(),
        json.dumps(state(1, log_history=[3])).encode(),
        json.dumps(state(1, log_history=[{"loss": 1}])).encode(),
    ],
    ids=lambda content: content[:40].decode(errors="replace"),
)
def test_a_damaged_state_is_one_line(tmp_path, content):
    path = write(tmp_path, 1, complete=False)
    (path / STATE).write_bytes(content)
    mark_complete(path)
    with pytest.raises(ConfigurationError, match=f"{STATE}: damaged .*; train again with --overwrite") as caught:
        at_step(tmp_path, 1).state()
    assert "\n" not in str(caught.value)


def test_numbers_that_are_none_are_no_damage(tmp_path):
    path = write(tmp_path, 1, complete=False)
    (path / STATE).write_text(json.dumps(state(1, log_history=[{"step": 1, "grad_norm": float("nan")}])))
    mark_complete(path)
    assert at_step(tmp_path, 1).state()["global_step"] == 1
