"""What a run writes down, and what it shows."""

import io
import json

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState

from propetl.errors import ConfigurationError
from propetl.training import logs
from propetl.training.evaluate import AVERAGE
from propetl.training.logs import ProgressDisplay, RunLog
from propetl.training.processes import Processes


def state(step, of=40):
    return TrainerState(global_step=step, max_steps=of)


def log(callback, step, **values):
    callback.on_log(None, state(step), TrainerControl(), logs=values)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_line_per_entry(tmp_path):
    callback = RunLog(tmp_path / "log.jsonl", None, Processes())
    callback.on_train_begin(None, state(0), TrainerControl())
    log(callback, 10, loss=0.5, learning_rate=1e-3)
    log(callback, 20, **{AVERAGE: 0.7})
    first, second = lines(tmp_path / "log.jsonl")
    assert first.items() >= {"step": 10, "loss": 0.5, "learning_rate": 1e-3}.items()
    assert second.items() >= {"step": 20, AVERAGE: 0.7}.items()


def test_a_resumed_run_drops_lines_beyond_its_start(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 10}\n{"step": 20}\n{"step": 30}\n{"step": 4')  # the last one cut by a kill
    RunLog(path, None, Processes()).on_train_begin(None, state(20), TrainerControl())
    assert [entry["step"] for entry in lines(path)] == [10, 20]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_divergence_ends_the_run(tmp_path, value):
    with pytest.raises(ConfigurationError, match=r"at step 30: training diverged; lower the learning rates"):
        log(RunLog(tmp_path / "log.jsonl", None, Processes()), 30, loss=value)


def test_what_is_no_number_is_none_in_the_log(tmp_path):
    log(RunLog(tmp_path / "log.jsonl", None, Processes()), 10, loss=0.5, grad_norm=float("inf"))
    (entry,) = lines(tmp_path / "log.jsonl")
    assert entry.items() >= {"loss": 0.5, "grad_norm": None}.items()


def test_tensorboard_gets_the_same(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = RunLog(tmp_path / "log.jsonl", tmp_path / "tb", Processes())
    callback.on_train_begin(None, state(0), TrainerControl())
    log(callback, 10, loss=0.5)
    log(callback, 20, eval_mood_accuracy=0.75, train_loss=0.25)
    callback.on_train_end(None, state(20), TrainerControl())
    found = EventAccumulator(str(tmp_path / "tb"))
    found.Reload()
    scalars = {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert scalars == {"train/loss": [(10, 0.5), (20, 0.25)], "eval/mood_accuracy": [(20, 0.75)]}


def shown(terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def run(display, console):
    display.on_train_begin(None, state(0), TrainerControl())
    display.on_step_end(None, state(1), TrainerControl())
    log(display, 1, loss=0.123456)
    display.on_step_end(None, state(2), TrainerControl())
    log(display, 2, **{AVERAGE: 0.5, "eval_mood_accuracy": 0.25})
    display.on_train_end(None, state(2), TrainerControl())
    return console.file.getvalue()


def test_lines_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(logs, "_SECONDS_BETWEEN_LINES", 0)
    console = shown(False)
    output = run(ProgressDisplay(console), console).splitlines()
    assert output[0].startswith("step 1/40")
    assert output[1].startswith("step 2/40  loss 0.1235")
    assert output[2] == "step 2/40  average 0.5000  (mood_accuracy 0.2500)"


def test_lines_are_rare(monkeypatch):
    monkeypatch.setattr(logs, "_SECONDS_BETWEEN_LINES", 1e9)
    console = shown(False)
    display = ProgressDisplay(console)
    display._last_line = logs.time.monotonic()
    assert run(display, console).splitlines() == ["step 2/40  average 0.5000  (mood_accuracy 0.2500)"]


def test_a_bar_on_a_terminal():
    console = shown(True)
    output = run(ProgressDisplay(console), console)
    assert "2/40" in output
    assert "loss 0.1235" in output
    assert "\x1b[?25h" in output  # the cursor is back


def test_time_left_is_estimated_after_some_steps(monkeypatch):
    monkeypatch.setattr(logs, "_SECONDS_BETWEEN_LINES", 0)
    clock = iter(range(0, 10_000, 60))
    monkeypatch.setattr(logs.time, "monotonic", lambda: float(next(clock)))
    console = shown(False)
    display = ProgressDisplay(console)
    display.on_train_begin(None, state(10), TrainerControl())  # a resumed run counts its own steps only
    display.on_step_end(None, state(14), TrainerControl())
    display.on_step_end(None, state(20), TrainerControl())
    first, second = console.file.getvalue().splitlines()
    assert first == "step 14/40"
    assert second.endswith("min left")
