import gc

import numpy as np
import pytest

from propetl.runtime.engines.ort_lending import Lender


class Binding:
    """What an IOBinding does with arrays in place of OrtValues."""

    def __init__(self):
        self.inputs, self.outputs = {}, {}

    def bind_ortvalue_input(self, name, value):
        self.inputs[name] = value

    def bind_ortvalue_output(self, name, value):
        self.outputs[name] = value


class Doubling:
    """A session that doubles ``x`` into ``y``."""

    def __init__(self):
        self.bindings = 0

    def io_binding(self):
        self.bindings += 1
        return Binding()

    def run_with_iobinding(self, binding):
        if binding.inputs["x"].max() > 100:
            raise RuntimeError("refused")
        binding.outputs["y"][...] = 2 * binding.inputs["x"]


@pytest.fixture
def session():
    return Doubling()


@pytest.fixture
def lent(session):
    lender = Lender(session, dict)

    def evaluate(*values):
        x = np.array(values, np.float32)
        return lender.evaluate({"x": x}, {"y": ("float32", x.shape)})

    return evaluate


def test_what_somebody_has_is_not_filled_anew(session, lent):
    first, second = lent(1, 2), lent(3, 4)
    third = lent(5, 6)
    assert [list(one["y"]) for one in (first, second, third)] == [[2, 4], [6, 8], [10, 12]]
    assert session.bindings == 3


def test_what_nobody_has_is_filled_anew(session, lent):
    place = lent(1, 2)["y"].ctypes.data
    again = lent(3, 4)
    assert session.bindings == 1 and again["y"].ctypes.data == place and list(again["y"]) == [6, 8]


def test_no_more_than_one_block_waits(session, lent):
    several = [lent(value) for value in range(4)]
    several.clear()
    gc.collect()
    kept = [lent(value) for value in range(4)]
    assert session.bindings == 4 + 3
    assert [list(one["y"]) for one in kept] == [[0], [2], [4], [6]]


def test_a_block_of_another_shape_is_not_used(lent):
    lent(1, 2)
    assert list(lent(1, 2, 3)["y"]) == [2, 4, 6]


def test_a_block_of_a_run_that_failed_is_not_used(session, lent):
    with pytest.raises(RuntimeError):
        lent(101)
    assert list(lent(1)["y"]) == [2] and session.bindings == 2
