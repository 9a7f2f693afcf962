"""Stages of a backbone that generates: masks are applied when a task is first used, and in no step after that."""

from dataclasses import replace
from threading import Barrier, Thread

import numpy as np
import pytest

from propetl.runtime import Session
from propetl.runtime.artifact import Artifact, read_artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.engines.ort import OrtEngine
from propetl.runtime.forms.choose import open_form
from propetl.runtime.forms.staged_generating import StagedGeneratingForm
from propetl.runtime.generation.options import GenerationOptions
from tests.export.random_text_artifact import TASKS, prompts

OPTIONS = EngineOptions(threads=1)


@pytest.fixture(scope="module")
def artifact(text_artifact):
    return read_artifact(text_artifact.artifact)


@pytest.fixture(params=["switchable", "bank"])
def form(request):
    return request.param


@pytest.fixture
def events(monkeypatch):
    """What is read and applied, and how many rows of weights are fed to each step, as it happens."""
    seen: list[str] = []
    read, evaluate, call = Artifact.pack, OrtEngine.evaluate, OrtEngine.call

    def calling(engine, feeds, kept):
        applied = [value for name, value in kept.items() if name.startswith("applied.")]
        seen.extend({f"rows {value.shape()[0]}" for value in applied})
        return call(engine, feeds, kept)

    monkeypatch.setattr(Artifact, "pack", lambda given, name: seen.append(f"read {name}") or read(given, name))
    monkeypatch.setattr(OrtEngine, "evaluate", lambda given, inputs: seen.append("apply") or evaluate(given, inputs))
    monkeypatch.setattr(OrtEngine, "call", calling)
    return seen


def test_masks_are_applied_once_per_task_whatever_is_generated(artifact, form, events):
    running = open_form(artifact, form, OPTIONS)
    assert isinstance(running, StagedGeneratingForm) and events == []
    inputs = prompts(np.random.default_rng(0), 3, 9)
    for options in (GenerationOptions(7), GenerationOptions(7, beams=3), GenerationOptions(7, sample=True)):
        running.bind("mood").generate(inputs, options)
    assert events[:2] == ["read mood", "apply"]
    assert set(events[2:]) == {"rows 1"} and len(events) > 2 + 3 * 3
    running.bind("degree").infer(inputs)
    running.bind("mood").infer(inputs)
    assert [event for event in events if not event.startswith("rows")] == ["read mood", "apply", "read degree", "apply"]


def test_no_graph_that_runs_takes_bits(artifact):
    stages = artifact.manifest.forms["switchable"].stages
    assert stages is not None and stages == artifact.manifest.forms["bank"].stages
    assert {item.dtype for item in stages.apply.inputs} == {"uint8"}
    assert all(item.dtype != "uint8" for graph in stages.run.values() for item in graph.inputs)
    taken = [[item for item in graph.inputs if item in stages.apply.outputs] for graph in stages.run.values()]
    encoder, decoder, with_past = taken
    assert decoder == with_past != []  # one copy serves both
    assert sorted(map(str, encoder + decoder)) == sorted(map(str, stages.apply.outputs))


def test_rows_of_one_task_need_no_weights_of_their_own(artifact, form, events):
    running = open_form(artifact, form, OPTIONS)
    inputs = prompts(np.random.default_rng(1), 3, 6)
    running.generate_mixed([running.bind("mood")] * 3, inputs, GenerationOptions(5), np.arange(3))
    assert set(events) == {"read mood", "apply", "rows 1"}


@pytest.mark.parametrize(("beams", "rows", "widest"), [(1, 3, 3), (2, 5, 4), (2, 3, 1)])
def test_weights_for_each_row_and_beam_stay_within_the_budget(
    artifact, text_artifact, form, events, beams, rows, widest
):
    """There is room for ``rows`` of them; what runs alone needs one for all of its beams."""
    whole = open_form(artifact, form, OPTIONS)
    room = rows * whole._tasks.applied_bytes(whole._tasks.known("mood"))
    running = open_form(artifact, form, OPTIONS, 3 * room // 2 + 3)
    inputs = prompts(np.random.default_rng(2), 7, 8)
    tasks = [list(TASKS)[row % 3] for row in range(7)]
    options = GenerationOptions(6, beams=beams)
    found = running.generate_mixed([running.bind(task) for task in tasks], inputs, options, np.arange(7))
    assert max(int(event.split()[1]) for event in events if event.startswith("rows")) == widest
    for row, task in enumerate(tasks):
        alone = {name: ids[row : row + 1] for name, ids in inputs.items()}
        expected = text_artifact.generated(task, alone, max_new_tokens=6, num_beams=beams, length_penalty=1.0)
        assert [found[row].tolist()] == expected
    assert running.task_bytes <= 3 * room // 2 + 3


def test_sampling_does_not_depend_on_how_rows_are_split(artifact, form):
    inputs = prompts(np.random.default_rng(3), 5, 8)
    tasks = [list(TASKS)[row % 3] for row in range(5)]
    options = GenerationOptions(8, sample=True, temperature=1.5, seed=3)
    drawn = []
    for memory in (0, 1 << 20):
        running = open_form(artifact, form, OPTIONS, memory)
        bound = [running.bind(task) for task in tasks]
        drawn.append([row.tolist() for row in running.generate_mixed(bound, inputs, options, np.arange(5))])
    assert drawn[0] == drawn[1]


def test_a_switchable_session_mixes_tasks(text_artifact):
    rows = [("mood", "a man"), ("degree", "good"), ("mood", "is"), ("degree", "dog")]
    with Session.open(text_artifact.artifact, form="switchable", threads=1) as session:
        found = session.predict_mixed(rows, beams=2, max_new_tokens=5, length_penalty=1.0)
        for (task, text), answer in zip(rows, found, strict=True):
            (alone,) = session.predict(task, [text], beams=2, max_new_tokens=5, length_penalty=1.0)
            assert alone == answer


def test_threads_that_push_each_others_weights_out_get_their_own_answers(artifact, text_artifact):
    running = open_form(artifact, "switchable", OPTIONS, task_memory=0)  # every call applies anew
    inputs = prompts(np.random.default_rng(4), 2, 7)
    options = GenerationOptions(6)
    expected = {task: text_artifact.generated(task, inputs, max_new_tokens=6, num_beams=1) for task in TASKS}
    wrong: list[str] = []
    barrier = Barrier(len(TASKS))

    def worker(task: str) -> None:
        barrier.wait()
        for _ in range(8):
            if [row.tolist() for row in running.bind(task).generate(inputs, options)] != expected[task]:
                wrong.append(task)

    threads = [Thread(target=worker, args=(task,)) for task in TASKS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_task_that_was_added_outlives_its_file_and_goes(artifact, text_artifact):
    running = open_form(artifact, "switchable", OPTIONS)
    pack = replace(text_artifact.bundle.pack("mood"), task="more")
    running.add(pack)
    inputs = prompts(np.random.default_rng(5), 2, 7)
    options = GenerationOptions(5)
    more, mood = (running.bind(task).generate(inputs, options) for task in ("more", "mood"))
    assert [row.tolist() for row in more] == [row.tolist() for row in mood]
    before = running.task_bytes
    running.remove("more")
    assert running.tasks() == tuple(TASKS) and running.task_bytes < before
