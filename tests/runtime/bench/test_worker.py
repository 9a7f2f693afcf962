import io
import json
from itertools import pairwise

import numpy as np
import pytest

from propetl.errors import BackendError, TaskError
from propetl.runtime.bench.messages import (
    Cell,
    Load,
    MeasureAdding,
    MeasureLatency,
    MeasureMemory,
    MeasureMixed,
    MeasureSwitching,
    Request,
    RunOnce,
    Vocabulary,
    answer_of,
    request_line,
)
from propetl.runtime.bench.subjects import run_grouped
from propetl.runtime.bench.worker import Worker, serve

VOCABULARY = Vocabulary(50, 0, ("input_ids", "attention_mask"))
LOAD = Load("somewhere", "folded", "a", "cpu", 1, VOCABULARY)
CELL = Cell(4, 6)


class FakeSubject:
    """Notes what it is asked to run; logits are row sums of the token ids."""

    def __init__(self):
        self.calls = []

    def run(self, task, feeds):
        if task == "unknown":
            raise TaskError("task 'unknown' is not here")
        self.calls.append((task, feeds["input_ids"].shape))
        return feeds["input_ids"].sum(axis=1, keepdims=True).astype(np.float32)

    def run_mixed(self, tasks, feeds):
        self.calls.append((tuple(tasks), feeds["input_ids"].shape))

    def adding_times(self, task, repeats):
        return [7] * repeats

    def device_samples(self, task, feeds, seconds, minimum):
        return []


@pytest.fixture
def subject():
    return FakeSubject()


@pytest.fixture
def worker(subject):
    worker = Worker(lambda load: subject)
    assert worker.answer(LOAD)["ns"] > 0
    return worker


def test_the_loader_is_told_what_to_load():
    seen = []

    def loader(load):
        seen.append(load)
        return FakeSubject()

    Worker(loader).answer(LOAD)
    assert seen == [LOAD]


def test_latency_counts_what_is_timed_but_not_the_warm_up(worker, subject):
    answer = worker.answer(MeasureLatency("a", CELL, 0.0, 5))
    assert len(answer["ns"]) == 5 and min(answer["ns"]) > 0 and answer["preempted"] >= 0
    assert subject.calls == [("a", (4, 6))] * 6


@pytest.mark.parametrize("tasks", [("a", "b"), ("a", "b", "c")])
def test_every_other_call_switches(worker, subject, tasks):
    answer = worker.answer(MeasureSwitching(tasks, CELL, 0.0))
    timed = [task for task, _ in subject.calls][len(tasks) - 1 :]  # from the warm-up's last call on
    switches = [one != other for one, other in pairwise(timed)]
    assert len(answer["pairs"]) == len(tasks)
    assert switches == [False, True] * len(tasks)
    assert {task: timed[1::2].count(task) for task in tasks} == dict.fromkeys(tasks, 1)
    assert {task: timed[2::2].count(task) for task in tasks} == dict.fromkeys(tasks, 1)


def test_rows_of_a_mixed_batch_take_turns(worker, subject):
    answer = worker.answer(MeasureMixed(("a", "b", "c"), CELL, 0.0))
    mixed = (("a", "b", "c", "a"), (4, 6))
    assert subject.calls == [mixed, ("a", (4, 6)), ("a", (4, 6)), mixed]
    assert len(answer["pairs"]) == 1 and min(answer["pairs"][0]) > 0


def test_running_once_runs_every_task_in_every_cell(worker, subject):
    assert worker.answer(RunOnce(("a", "b"), (CELL, Cell(1, 3)))) == {}
    assert subject.calls == [(task, shape) for shape in [(4, 6), (1, 3)] for task in "ab"]


def test_memory_and_adding(worker):
    memory = worker.answer(MeasureMemory())
    assert 0 < memory["private"] <= memory["pss"] <= memory["rss"]
    assert worker.answer(MeasureAdding("a", 3)) == {"ns": [7, 7, 7]}


def test_measuring_before_loading():
    with pytest.raises(BackendError, match="before it loaded a runtime"):
        Worker(lambda load: FakeSubject()).answer(MeasureLatency("a", CELL, 0.0, 1))


def test_lines_in_lines_out_and_an_error_does_not_end_it(subject):
    asked: list[Request] = [LOAD, MeasureLatency("unknown", CELL, 0.0, 1), MeasureLatency("a", CELL, 0.0, 2)]
    requests = io.StringIO("".join(request_line(request) + "\n" for request in asked))
    answers = io.StringIO()
    serve(lambda load: subject, requests, answers)
    loaded, refused, measured = answers.getvalue().splitlines()
    assert answer_of(loaded)["ns"] > 0
    with pytest.raises(TaskError, match="task 'unknown' is not here"):
        answer_of(refused)
    assert len(json.loads(measured)["ok"]["ns"]) == 2


def test_grouped_rows_get_the_answers_of_their_own_rows(subject):
    ids = np.arange(12).reshape(4, 3)
    found = run_grouped(subject, ["a", "b", "a", "b"], {"input_ids": ids})
    assert subject.calls == [("a", (2, 3)), ("b", (2, 3))]
    assert np.concatenate(found).tolist() == ids.sum(axis=1).tolist()
