import numpy as np
import pytest

from propetl.errors import ArtifactError
from propetl.runtime import Session
from propetl.runtime.bench.messages import Cell, Load, Vocabulary
from propetl.runtime.bench.subjects import load_subject
from propetl.runtime.bench.tokens import feeds_of
from tests.runtime.tiny_artifact import TASKS, write_tiny_artifact
from tests.runtime.tiny_tokenizer import INPUTS, VOCABULARY

WORDS = Vocabulary(len(VOCABULARY), 0, INPUTS)
FEEDS = feeds_of(Cell(6, 5), WORDS)


def load(tiny, runtime):
    return load_subject(Load(str(tiny.path), runtime, "mood", "cpu", 1, WORDS))


@pytest.mark.parametrize("form", ["folded", "switchable", "bank"])
def test_what_is_timed_is_what_a_session_answers(tiny, form):
    subject = load(tiny, form)
    with Session.open(tiny.path, form=form, threads=1) as session:
        for task in TASKS:
            np.testing.assert_array_equal(subject.run(task, FEEDS), session.run(task, FEEDS))


@pytest.mark.parametrize("form", ["folded", "switchable", "bank"])
def test_a_mixed_batch_gives_every_row_its_task(tiny, form):
    subject = load(tiny, form)
    tasks = [list(TASKS)[row % len(TASKS)] for row in range(6)]
    for row, (task, logits) in enumerate(zip(tasks, subject.run_mixed(tasks, FEEDS), strict=True)):
        expected = subject.run(task, {name: tensor[row : row + 1] for name, tensor in FEEDS.items()})[0]
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_the_bare_backbone_answers_without_a_task(tiny):
    subject = load(tiny, "bare")
    logits = subject.run("mood", FEEDS)
    assert logits.shape == (6, 2)
    assert not np.allclose(logits, load(tiny, "folded").run("mood", FEEDS))
    np.testing.assert_array_equal(subject.run_mixed(["mood"] * 6, FEEDS), logits)
    assert subject.adding_times("mood", 2) == []


def test_adding_is_timed_each_time(tiny):
    taken = load(tiny, "switchable").adding_times("topic", 3)
    assert len(taken) == 3 and min(taken) > 0


def test_an_artifact_without_the_yardstick(tmp_path):
    bankless = write_tiny_artifact(tmp_path / "artifact", forms=("folded",))
    with pytest.raises(ArtifactError, match="has no form bare"):
        load(bankless, "bare")
