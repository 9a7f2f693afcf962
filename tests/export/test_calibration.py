"""Rows to calibrate on, and what graphs are fed with."""

import json

import numpy as np
import pytest

from propetl.errors import DataError
from propetl.export.calibration import CALIBRATION_ROWS, calibration_batches, graph_feeds, rows_in
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engine_records import GraphName


@pytest.fixture(scope="module")
def artifact(exported):
    return read_artifact(exported.artifact)


@pytest.fixture
def data(tmp_path):
    """Training rows of tasks `two` and `five`, more than are used."""
    for task, labels in (("two", 2), ("five", 5)):
        (tmp_path / task).mkdir()
        rows = [{"text": "good " * (1 + row % 7), "label": f"label {row % labels}"} for row in range(200)]
        (tmp_path / task / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_golden_rows_unless_data_are_given(artifact):
    batches = calibration_batches(artifact, ["two", "value"], None)
    for task in ("two", "value"):
        (batch,) = batches[task]
        assert all(np.array_equal(batch[name], ids) for name, ids in artifact.golden(task).feeds.items())
    assert rows_in(batches["two"]) == 3


def test_training_rows_of_each_task(artifact, data):
    batches = calibration_batches(artifact, ["two", "five"], str(data))
    for task in ("two", "five"):
        assert rows_in(batches[task]) == CALIBRATION_ROWS
        lengths = [batch["input_ids"].shape[1] for batch in batches[task]]
        assert lengths == sorted(lengths) and max(lengths) <= artifact.manifest.max_length
        assert set(batches[task][0]) == {"input_ids", "attention_mask", "token_type_ids"}


def test_rows_that_are_not_there(artifact, data):
    with pytest.raises(DataError, match="value"):
        calibration_batches(artifact, ["value"], str(data))


def test_a_folded_graph_takes_its_tasks_rows(artifact):
    batches = calibration_batches(artifact, artifact.manifest.tasks, None)
    (feeds,) = graph_feeds(artifact, GraphName("folded", "two", "model"), batches)
    assert feeds.keys() == {item.name for item in artifact.manifest.forms["folded"].graphs["two"].inputs}
    assert np.array_equal(feeds["input_ids"], batches["two"][0]["input_ids"])


@pytest.mark.parametrize("form", ["switchable", "bank"])
def test_a_graph_for_all_tasks_takes_the_rows_of_all(artifact, form):
    batches = calibration_batches(artifact, artifact.manifest.tasks, None)
    given = list(graph_feeds(artifact, GraphName(form, None, "model"), batches))
    assert len(given) == 3
    names = {item.name for item in artifact.manifest.forms[form].graph.inputs}
    assert all(feeds.keys() == names for feeds in given)
    if form == "bank":
        assert [set(feeds["task_id"]) for feeds in given] == [{0}, {1}, {2}]
    else:
        assert [feeds["head.bias"].shape for feeds in given] == [(1,), (2,), (5,)]


def test_the_stage_that_runs_text_takes_what_the_other_gives(artifact):
    batches = calibration_batches(artifact, artifact.manifest.tasks, None)
    stages = artifact.manifest.forms["bank"].stages
    given = list(graph_feeds(artifact, GraphName("stages", None, "run"), batches))
    assert len(given) == 3
    for feeds, labels in zip(given, (1, 2, 5), strict=True):
        for item in stages.run["model"].inputs:
            sizes = {"rows": 1, "labels": labels, "batch": len(feeds["input_ids"])}
            sizes["sequence"] = feeds["input_ids"].shape[1]
            assert feeds[item.name].shape == tuple(sizes.get(size, size) for size in item.shape)
