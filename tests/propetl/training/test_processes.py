"""One process alone; several are tested through torchrun in test_torchrun.py."""

import pytest
from torch import distributed

from propetl.errors import ConfigurationError, ProPETLError
from propetl.training.processes import Processes


def test_alone_everything_is_the_identity():
    alone = Processes()
    assert alone.first
    assert alone.gather([1]) == [[1]]
    assert alone.on_first(lambda: 5) == 5
    assert alone.largest(7) == 7


def test_an_error_of_the_first_process_reaches_it():
    def fail():
        raise ConfigurationError("no")

    with pytest.raises(ConfigurationError, match="no"):
        Processes().on_first(fail)


@pytest.mark.parametrize(("index", "kind"), [(0, ConfigurationError), (1, ProPETLError)])
def test_an_error_of_the_first_process_reaches_all(monkeypatch, index, kind):
    """Each process sees what the first one broadcast."""
    sent = ["nothing"]

    def broadcast(outcome, src):
        assert src == 0
        if index == 0:
            sent[:] = outcome
        else:
            outcome[:] = [None, "no room"]

    def fail():
        raise ConfigurationError("no room")

    monkeypatch.setattr(distributed, "broadcast_object_list", broadcast)
    with pytest.raises(kind, match="no room"):
        Processes(index, 2).on_first(fail)
    assert sent == ([None, "no room"] if index == 0 else ["nothing"])
