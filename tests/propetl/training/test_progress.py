"""What the log history says of a run."""

import pytest

from propetl.training.evaluate import AVERAGE
from propetl.training.progress import best_evaluation, evaluation_is_due, is_done, stopped_early
from propetl.training.schedule import Schedule


def history(*averages):
    """An evaluation every ten steps, with other entries in between."""
    entries = []
    for place, average in enumerate(averages, start=1):
        entries += [{"step": 10 * place, "loss": 1.0}, {"step": 10 * place, AVERAGE: average}]
    return entries


@pytest.mark.parametrize(
    ("averages", "patience", "stops"),
    [
        ((0.5, 0.4, 0.3), 2, True),
        ((0.5, 0.4, 0.3), 3, False),
        ((0.5, 0.4, 0.6), 1, False),
        ((0.5, 0.5, 0.5), 2, True),  # an equal score is kept, but it is no progress
        ((0.5, 0.5, 0.6), 1, False),
        ((0.5, 0.4, 0.3), None, False),
        ((), 1, False),
    ],
)
def test_patience_counts_evaluations_after_the_best(averages, patience, stops):
    assert stopped_early(history(*averages), patience) is stops


@pytest.mark.parametrize(("max_steps", "patience", "done"), [(30, None, True), (31, None, False), (31, 2, True)])
def test_done_by_steps_or_by_patience(max_steps, patience, done):
    state = {"global_step": 30, "log_history": history(0.5, 0.4, 0.3)}
    assert is_done(state, Schedule(10, max_steps, 0, 10, 10), patience) is done


@pytest.mark.parametrize(("step", "due"), [(0, False), (10, False), (15, False), (20, True), (25, True)])
def test_an_evaluation_that_was_broken_off_is_due(step, due):
    """Of 25 steps, evaluated every 10 and at the end, the first evaluation was made."""
    past = [entry for entry in history(0.5) if entry["step"] <= step]
    assert evaluation_is_due(past, step, 25, 10) is due
    assert is_done({"global_step": step, "log_history": past}, Schedule(10, 25, 0, 10, 10), None) is False


def test_the_best_evaluation_is_found_by_its_step():
    state = {"best_global_step": 20, "log_history": history(0.1, 0.9, 0.3)}
    assert best_evaluation(state) == {"step": 20, AVERAGE: 0.9}
