"""What tests share that hold every form against PyTorch."""

from pathlib import Path

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as draw

from propetl.bundle import add_task, read_bundle
from propetl.bundle.format import pack_path
from propetl.model import ProPETLModel
from propetl.runtime import Session
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.forms import RunningForm
from propetl.runtime.forms.choose import open_form
from tests.export.random_artifact import ALL_FORMS, Exported, torch_logits
from tests.tiny_bundle import Outputs, random_task

TOLERANCE = 1e-5


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """Two answers have to be the same but for rounding."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


def every_form(artifact: Path) -> list[RunningForm]:
    """All forms, in stages and as one graph."""
    read = read_artifact(artifact)
    ways = (EngineOptions(threads=1), EngineOptions(threads=1, staged=False))
    return [open_form(read, form, way) for form in ALL_FORMS for way in ways]


def assert_every_form_is_the_torch_model(exported: Exported, drawn: int) -> None:
    """On ``drawn`` batches of any size, length and task."""
    forms, tasks = every_form(exported.artifact), sorted(exported.bundle.packs)

    @settings(max_examples=drawn, deadline=None, database=None)
    @given(
        seed=draw.integers(0, 2**32 - 1),
        rows=draw.integers(1, 5),
        length=draw.integers(1, 20),
        task=draw.sampled_from(tasks),
    )
    @example(seed=0, rows=1, length=1, task=tasks[0])
    @example(seed=0, rows=3, length=1, task=tasks[-1])
    @example(seed=0, rows=1, length=9, task=tasks[0])
    def agree(seed: int, rows: int, length: int, task: str) -> None:
        inputs = exported.inputs(rows, length, seed)
        expected = exported.logits(task, inputs)
        for form in forms:
            close(form.bind(task).infer(inputs), expected)

    agree()


def assert_mixed_rows_are_those_alone(session: Session, rows: list[tuple[str, str | tuple[str, str]]]) -> None:
    """A batch of several tasks against calls of one row each."""
    for (task, text), logits in zip(rows, session.run_mixed(rows), strict=True):
        close(logits, session.run(task, [text])[0])


def assert_a_later_task_runs_beside_the_others(exported: Exported, session: Session, outputs: Outputs) -> None:
    """A task ``later`` comes to the bundle and then to ``session``; all its tasks are PyTorch's."""
    path, bundle = exported.bundle.path, exported.bundle
    if "later" not in read_bundle(path).packs:
        names = tuple(exported.inputs(1, 1))
        random = np.random.default_rng(7)
        add_task(path, "later", random_task(bundle.info.layout, outputs, random, bundle.info.head, names))
    model = ProPETLModel.from_bundle(read_bundle(path), exported.backbone)
    session.add_task(path / pack_path("later"))
    inputs = exported.inputs(4, 11)
    for task in session.tasks:
        close(session.run(task, inputs), torch_logits(model, task, inputs))


def row_of(task: str, text: str) -> str | tuple[str, str]:
    """``text`` as ``task`` reads it: the regression of these bundles takes pairs."""
    return (text, text[::-1]) if task == "value" else text
