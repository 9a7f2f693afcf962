import threading

import pytest

from propetl.runtime.beside import Beside


def test_work_goes_on_beside():
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        assert go_on.wait(10)
        return 7

    beside = Beside(work)
    assert begun.wait(10)
    go_on.set()
    assert [beside.result(), beside.result()] == [7, 7]


def test_an_error_is_raised_where_the_result_is_asked_for():
    def work():
        raise ValueError("no")

    beside = Beside(work)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            beside.result()
