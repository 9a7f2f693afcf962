"""Scores that are not finite end a generation, unless the row that they are of has ended."""

import numpy as np
import pytest

from propetl.errors import AnswerError
from propetl.runtime.generation.generate import generate
from propetl.runtime.generation.options import GenerationOptions, SpecialTokens

SPECIAL = SpecialTokens(0, (1,), 0)
PLACES = np.array([7, 4, 9])  # of the rows in the caller's order


class Scripted:
    """A model whose row ``bad`` scores ``value`` from step ``since`` on; row ``ends`` ends with its first token."""

    def __init__(self, bad, since, value, ends=None):
        self.rows, self.step = np.arange(3), 0
        self.bad, self.since, self.value, self.ends = bad, since, value, ends

    def prompt(self):
        return np.zeros((3, 1), dtype=np.int64)

    def first(self):
        return self._scores()

    def after(self, tokens):
        self.step += 1
        return self._scores()

    def select(self, rows):
        self.rows = self.rows[rows]

    def _scores(self):
        scores = np.tile(np.arange(5, dtype=np.float32) / 10, (len(self.rows), 1))
        scores[self.rows == self.ends, 1] = 100
        if self.step >= self.since:
            scores[self.rows == self.bad, 3] = self.value
        return scores


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("since", [0, 2])
@pytest.mark.parametrize("beams", [1, 3])
def test_the_row_is_named_by_its_place(value, since, beams):
    options = GenerationOptions(max_new_tokens=4, beams=beams)
    with pytest.raises(AnswerError, match=r"^row 4: the logits are no finite numbers"):
        generate(Scripted(1, since, value), options, SPECIAL, PLACES)
    with pytest.raises(AnswerError, match=r"^row 1: "):
        generate(Scripted(1, since, value), options, SPECIAL)


def test_a_row_that_has_ended_may_be_anything():
    options = GenerationOptions(max_new_tokens=4)
    found = generate(Scripted(1, 1, np.nan, ends=1), options, SPECIAL, PLACES)
    assert [row.tolist() for row in found] == [[4, 4, 4, 4], [1], [4, 4, 4, 4]]
