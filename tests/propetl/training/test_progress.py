"""What the log history says of a run."""

import pytest

from propetl.training.evaluate import AVERAGE
from propetl.training.progress import best_evaluation, is_done, stopped_early


def history(*averages):
    """An evaluation every ten steps, with other entries in between."""
    entries = []
    for place, average in enumerate(averages, start=1):
        entries += [{"step": 10 * place, "loss": 1.0}, {"step": 10 * place, AVERAGE: average}]
    return entries


@pytest.mark.parametrize(
    ("averages", "best", "patience", "stops"),
    [
        ((0.5, 0.4, 0.3), 10, 2, True),
        ((0.5, 0.4, 0.3), 10, 3, False),
        ((0.5, 0.4, 0.6), 30, 1, False),
        ((0.5, 0.4, 0.3), 10, None, False),
        ((), None, 1, False),
    ],
)
def test_patience_counts_evaluations_after_the_best(averages, best, patience, stops):
    assert stopped_early(history(*averages), best, patience) is stops


@pytest.mark.parametrize(("step", "patience", "done"), [(30, None, True), (29, None, False), (29, 2, True)])
def test_done_by_steps_or_by_patience(step, patience, done):
    state = {"global_step": step, "best_global_step": 10, "log_history": history(0.5, 0.4, 0.3)}
    assert is_done(state, 30, patience) is done


def test_the_best_evaluation_is_found_by_its_step():
    state = {"best_global_step": 20, "log_history": history(0.1, 0.9, 0.3)}
    assert best_evaluation(state) == {"step": 20, AVERAGE: 0.9}
