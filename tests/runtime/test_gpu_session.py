"""The session's promises on a GPU, for every provider that is installed: ``python -m pytest -m gpu``."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from propetl.errors import BackendError
from propetl.runtime.artifact import read_manifest
from propetl.runtime.engines import EngineOptions
from propetl.runtime.engines.precision import computed_precision
from propetl.runtime.report import TOLERANCES
from propetl.runtime.selftest import self_test
from propetl.task import TaskSpec
from tests.runtime.gpu import GPU_PROVIDERS, open_or_skip
from tests.runtime.tiny_artifact import ROWS
from tests.runtime.tiny_tokenizer import token_ids

pytestmark = [pytest.mark.gpu, pytest.mark.parametrize("provider", GPU_PROVIDERS)]

FORMS = ("folded", "switchable", "bank")


def assert_near(tiny, provider, found, expected):
    tolerance = TOLERANCES[computed_precision(read_manifest(tiny.path).manifest, EngineOptions(provider))]
    np.testing.assert_allclose(found, expected, atol=tolerance.absolute, rtol=tolerance.relative)


@pytest.mark.parametrize("form", FORMS)
def test_every_task_is_answered_as_by_the_reference(tiny, provider, form, tmp_path):
    with open_or_skip(tiny.path, provider, form=form, engine_cache=tmp_path) as session:
        for task in ROWS:
            assert_near(tiny, provider, session.run(task, ROWS[task]), tiny.expected(task, ROWS[task]))


@pytest.mark.parametrize("form", FORMS)
def test_mixed_rows(tiny, provider, form, tmp_path):
    rows = [(task, row) for task in ROWS for row in ROWS[task]]
    with open_or_skip(tiny.path, provider, form=form, engine_cache=tmp_path) as session:
        found = session.run_mixed(rows)
    for (task, row), logits in zip(rows, found, strict=True):
        assert_near(tiny, provider, logits, tiny.expected(task, [row])[0])


def test_engines_are_kept_and_do_not_answer_for_each_other(tiny, provider, tmp_path):
    """The second start takes engines from the folder; folded graphs differ in nothing but their weights."""
    for _ in range(2):
        with open_or_skip(tiny.path, provider, form="folded", engine_cache=tmp_path) as session:
            for task in ROWS:
                assert_near(tiny, provider, session.run(task, ROWS[task]), tiny.expected(task, ROWS[task]))


def test_any_number_of_rows_and_tokens(tiny, provider, tmp_path):
    with open_or_skip(tiny.path, provider, form="switchable", engine_cache=tmp_path, batch_size=8) as session:
        for rows in (1, 2, 7, 8, 9, 40):
            texts = ["good film a b c"[: 1 + 2 * (row % 6)] or "a" for row in range(rows)]
            assert_near(tiny, provider, session.run("mood", texts), tiny.expected("mood", texts))


def test_a_task_with_more_labels_is_added_and_removed(tiny, provider, tmp_path):
    info = TaskSpec("task", ("text",), labels=tuple("abcdefg"))
    pack = tiny.model.pack("wide", info, seed=7)
    (tmp_path / "wide.safetensors").write_bytes(pack.to_bytes())
    with open_or_skip(tiny.path, provider, form="switchable", engine_cache=tmp_path / "cache") as session:
        session.add_task(tmp_path / "wide.safetensors")
        assert_near(tiny, provider, session.run("wide", ["good"]), tiny.expected("wide", ["good"], pack))
        session.remove_task("wide")
        assert_near(tiny, provider, session.run("mood", ["good"]), tiny.expected("mood", ["good"]))


def test_many_threads_get_their_own_answers(tiny, provider, tmp_path):
    jobs = [(task, row) for task in ROWS for row in ROWS[task]] * 25
    with (
        open_or_skip(tiny.path, provider, form="switchable", engine_cache=tmp_path) as session,
        ThreadPoolExecutor(8) as pool,
    ):
        found = list(pool.map(lambda job: session.run(job[0], [job[1]]), jobs))
    for (task, row), logits in zip(jobs, found, strict=True):
        assert_near(tiny, provider, logits, tiny.expected(task, [row]))


def test_the_self_test_passes(tiny, provider, tmp_path):
    open_or_skip(tiny.path, provider, engine_cache=tmp_path).close()
    report = self_test(tiny.path, provider=provider, engine_cache=tmp_path)
    assert report.passed, report.breaches


def test_ids_beyond_the_vocabulary_do_not_crash_the_process(tiny, provider, tmp_path):
    """CUDA's Gather gives zeros or an error; either way the next call is answered."""
    feeds = token_ids(["good"])
    with open_or_skip(tiny.path, provider, form="switchable", engine_cache=tmp_path) as session:
        try:
            session.run("mood", feeds | {"input_ids": feeds["input_ids"] + 1000})
        except BackendError:
            return  # an illegal access ends the CUDA context, and the message says so
        assert_near(tiny, provider, session.run("mood", ["good"]), tiny.expected("mood", ["good"]))
