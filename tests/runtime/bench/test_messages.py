import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl import errors
from propetl.runtime.bench.messages import (
    Cell,
    Load,
    MeasureAdding,
    MeasureLatency,
    MeasureMemory,
    MeasureMixed,
    MeasureSwitching,
    MeasureTokens,
    RunOnce,
    Vocabulary,
    answer_line,
    answer_of,
    error_line,
    request_line,
    request_of,
)

NAMES = st.text(min_size=1, max_size=8)
TASKS = st.lists(NAMES, max_size=3).map(tuple)
COUNTS = st.integers(1, 500)
CELLS = st.builds(Cell, COUNTS, COUNTS)
SECONDS = st.floats(0, 100)
VOCABULARIES = st.builds(Vocabulary, COUNTS, COUNTS, TASKS)
REQUESTS = st.one_of(
    st.builds(Load, NAMES, NAMES, NAMES, NAMES, COUNTS, VOCABULARIES),
    st.just(MeasureMemory()),
    st.builds(RunOnce, TASKS, st.lists(CELLS, max_size=3).map(tuple)),
    st.builds(MeasureLatency, NAMES, CELLS, SECONDS, COUNTS),
    st.builds(MeasureTokens, NAMES, CELLS, SECONDS, COUNTS),
    st.builds(MeasureSwitching, TASKS, CELLS, SECONDS),
    st.builds(MeasureMixed, TASKS, CELLS, SECONDS),
    st.builds(MeasureAdding, NAMES, COUNTS),
)


@given(REQUESTS)
def test_a_request_comes_back_as_it_went(request_):
    line = request_line(request_)
    assert "\n" not in line
    assert request_of(line) == request_


def test_an_answer_comes_back_as_it_went():
    line = answer_line({"ns": [1, 2], "preempted": 0})
    assert "\n" not in line
    assert answer_of(line) == {"ns": [1, 2], "preempted": 0}


@pytest.mark.parametrize("kind", ["TaskError", "ArtifactError", "BundleError", "BackendError"])
def test_an_error_comes_back_as_what_it_was(kind):
    line = error_line(getattr(errors, kind)("two\nlines"))
    assert "\n" not in line
    with pytest.raises(getattr(errors, kind), match="two\nlines"):
        answer_of(line)


def test_a_missing_extra_keeps_its_message():
    error = errors.MissingExtraError("PyTorch eager", "torch", "export")
    with pytest.raises(errors.BackendError, match=r"pip install .*\[export\]'"):
        answer_of(error_line(error))


def test_an_error_of_a_kind_unknown_here():
    line = json.dumps({"error": {"kind": "NoSuchError", "message": "strange"}})
    with pytest.raises(errors.BackendError, match="strange"):
        answer_of(line)
