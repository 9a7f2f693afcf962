"""Steps of a run."""

import pytest

from propetl.training.schedule import Schedule, schedule_of


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"epochs": 3}, Schedule(10, 30, 3, 10, 10)),
        ({"epochs": 0.5}, Schedule(10, 5, 1, 5, 5)),
        ({"epochs": 3, "max_steps": 7}, Schedule(10, 7, 1, 7, 7)),
        ({"epochs": 2, "gradient_accumulation": 4}, Schedule(3, 6, 1, 3, 3)),
        ({"epochs": 3, "eval_every": 4, "save_every": 90, "warmup_ratio": 0}, Schedule(10, 30, 0, 4, 30)),
        ({"epochs": 0.001}, Schedule(10, 1, 1, 1, 1)),
    ],
)
def test_lengths(make_config, changes, expected):
    config = make_config(**{"max_steps": None, "eval_every": None, **changes})
    assert schedule_of(config, batches=10) == expected
