"""Tasks as text-to-text: the reference implementation's GLUE, and others."""

import numpy as np
import pytest

from propetl.data.as_text import as_text
from propetl.data.generated import GENERATED
from propetl.data.tables import load_split
from propetl.data.tasks import TASKS
from propetl.errors import ConfigurationError
from propetl.task import TaskSpec

ASKED = {
    "cola": "cola sentence: A",
    "sst2": "sst2 sentence: A",
    "mrpc": "mrpc sentence1: A sentence2: B",
    "qqp": "qqp question1: A question2: B",
    "stsb": "stsb sentence1: A sentence2: B",
    "mnli": "mnli premise: A hypothesis B",
    "qnli": "qnli question: A sentence: B",
    "rte": "rte sentence1: A sentence2: B",
}


@pytest.mark.parametrize("name", TASKS)
def test_glue(name):
    spec = as_text(TASKS[name])
    assert spec.text is not None and spec.problem == "text" and spec.outputs == 0
    assert spec.text.source(("A", "B")[: len(spec.columns)]) == ASKED[name]
    assert (spec.asks.name, spec.labels, spec.metrics) == (TASKS[name].problem, TASKS[name].labels, TASKS[name].metrics)
    if name == "stsb":
        assert (spec.text.words, spec.text.step) == ((), 0.2)
    else:
        assert spec.text.words == tuple(map(str, range(len(spec.labels))))


@pytest.mark.parametrize("name", TASKS)
def test_answers_of_real_rows_come_back(glue_dir, name):
    spec = as_text(TASKS[name])
    assert spec.text is not None
    rows = load_split(spec, glue_dir, "dev", max_rows=200)
    answers = [spec.text.answer(spec.text.target(label)) for label in rows.labels.tolist()]
    np.testing.assert_allclose(answers, rows.labels, atol=0.1 + 1e-6 if name == "stsb" else 0)
    assert len(set(answers)) == len(spec.labels) or (name == "stsb" and 10 < len(set(answers)) <= 26)
    assert all(spec.text.source(row).startswith(f"{name} ") for row in rows.texts)


def test_other_tasks_are_answered_by_their_labels_names():
    topic = as_text(GENERATED["topic"])
    assert topic.text is not None and topic.text.words == topic.labels
    assert topic.text.prompt == "topic sentence1: {}"
    likeness = as_text(GENERATED["likeness"])
    assert likeness.text is not None and (likeness.text.step, likeness.asks.name) == (0.2, "regression")
    assert as_text(topic) is topic


def test_own_tasks():
    summary = TaskSpec.from_mapping("own", {"columns": "document", "label": "summary", "problem": "text"})
    assert summary.text is not None and summary.text.prompt == "own document: {}"
    assert (summary.asks.name, summary.metrics, summary.text.max_target_length) == ("text", ("rouge1",), 128)
    classes = TaskSpec.from_mapping(
        "own", {"columns": "text", "problem": "text", "labels": ["against", "for"], "words": ["no", "yes"]}
    )
    assert classes.text is not None and classes.text.words == ("no", "yes")
    assert (classes.asks.name, classes.metrics) == ("classification", ("accuracy",))
    values = TaskSpec.from_mapping("own", {"columns": "text", "problem": "text", "step": 0.5})
    assert (values.asks.name, values.metrics) == ("regression", ("pearson",))


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"columns": "text", "labels": ["a", "b"], "prompt": "{}"}, ["unknown key prompt"]),
        ({"columns": "text", "problem": "text", "prompt": "no place"}, ["'no place'", "1 text column"]),
        ({"columns": ["a", "b"], "problem": "text", "prompt": "{}"}, ["2 text columns"]),
        ({"columns": "text", "problem": "text", "num_beams": 0}, ["num_beams", "at least 1"]),
        ({"columns": "text", "problem": "text", "step": "x"}, ["step", "'x'"]),
        ({"columns": "text", "problem": "text", "words": ["a", "b"]}, ["2 words", "0 labels"]),
        ({"columns": "text", "problem": "text", "labels": ["x", "y"], "words": ["a"]}, ["1 words", "2 labels"]),
        ({"columns": "text", "problem": "text", "metrics": "accuracy"}, ["accuracy", "rouge1"]),
        ({"columns": "text", "problem": "text", "labels": ["x", "y"], "metrics": "bleu"}, ["bleu", "accuracy"]),
    ],
)
def test_own_text_task_refused_in_one_line(mapping, words):
    with pytest.raises(ConfigurationError) as caught:
        TaskSpec.from_mapping("own", mapping)
    message = str(caught.value)
    assert "'own'" in message and "\n" not in message
    assert all(word in message for word in words), message
