import dataclasses
import json
import pickle
from typing import ClassVar

import pytest

from propetl.data.as_text import as_text
from propetl.data.label_values import LabelValue
from propetl.data.reading import classes_of
from propetl.data.tasks import TASKS
from propetl.errors import ConfigurationError, DataError
from propetl.task import TaskSpec


def test_glue_tasks_have_glue_metrics() -> None:
    assert {name: spec.metrics for name, spec in TASKS.items()} == {
        "cola": ("matthews",),
        "sst2": ("accuracy",),
        "mrpc": ("accuracy", "f1"),
        "qqp": ("accuracy", "f1"),
        "stsb": ("pearson", "spearman"),
        "mnli": ("accuracy",),
        "qnli": ("accuracy",),
        "rte": ("accuracy",),
    }


def test_glue_tasks_have_their_outputs() -> None:
    assert [TASKS[name].outputs for name in ("cola", "stsb", "mnli", "rte")] == [2, 1, 3, 2]
    assert TASKS["stsb"].problem == "regression"
    assert TASKS["mnli"].labels == ("entailment", "neutral", "contradiction")


def test_specs_are_hashable_and_can_be_pickled() -> None:
    spec = TaskSpec.from_mapping("own", {"columns": "text", "labels": {"a": "no way", "b": "yes way"}})
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert len({spec, *TASKS.values()}) == 9


def test_own_pair_task() -> None:
    spec = TaskSpec.from_mapping(
        "stance-2",
        {
            "columns": ["claim", "reply"],
            "label": "stance",
            "labels": ["against", "for"],
            "metrics": ["f1", "accuracy"],
        },
    )
    assert spec.columns == ("claim", "reply")
    assert (spec.label_column, spec.labels, spec.metric) == ("stance", ("against", "for"), "f1")


def test_own_regression_defaults_to_pearson() -> None:
    spec = TaskSpec.from_mapping("stars", {"columns": "review", "problem": "regression"})
    assert (spec.columns, spec.metrics, spec.outputs) == (("review",), ("pearson",), 1)


def test_mapped_labels_take_the_place_of_indices() -> None:
    spec = TaskSpec.from_mapping("own", {"columns": "text", "labels": {1: "bad", 2: "good", "x": "bad"}})
    assert spec.labels == ("bad", "good")
    seen = dict.fromkeys(map(LabelValue, ("1", "2", "x", "good")), "here")
    assert list(classes_of(spec, seen).values()) == [0, 1, 0, 1]
    with pytest.raises(DataError, match=r"here: label '0' is unknown: task own has x \(bad\), 2 \(good\)"):
        classes_of(spec, {LabelValue("0"): "here"})


@pytest.mark.parametrize("value", ["2", "-1", "+1", "01", "Yes", "١", "99999999999", "9" * 5000])
def test_values_that_name_no_class(value: str) -> None:
    with pytest.raises(DataError, match="is unknown"):
        classes_of(TaskSpec("own", ("text",), labels=("no", "yes")), {LabelValue(value): "here"})


@pytest.mark.parametrize("labels", [["yes", "Yes"], ["yes", " yes"], ["1", "1.0"], ["caf\u00e9", "cafe\u0301"]])
def test_labels_that_differ_in_spelling_alone_are_refused(labels: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="differ only in case, blanks or spelling"):
        TaskSpec("own", ("text",), labels=("no", *labels))


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"columns": "text", "labels": ["a", "b"], "colour": 1}, ["unknown key colour", "columns, template, label"]),
        ({"labels": ["a", "b"]}, ["no key columns"]),
        (["columns"], ["['columns']", "columns, template, label"]),
        ({"columns": "text", "labels": [False, True]}, ["labels[0]", "False", "quotes"]),
        ({"columns": "text", "labels": {True: "yes", False: "no"}}, ["True", "quotes"]),
        ({"columns": "text", "labels": {1: "a", "1": "b"}}, ["twice"]),
        ({"columns": "text", "labels": ["a"]}, ["['a']", "two or more"]),
        ({"columns": "text", "labels": ["a", "a"]}, ["all different"]),
        ({"columns": "text"}, ["[]", "two or more"]),
        ({"columns": ["a", "b", "c"], "labels": ["x", "y"]}, ["one or two", "template: '{a} {b} {c}'"]),
        ({"columns": [], "labels": ["x", "y"]}, ["one or two"]),
        ({"columns": ["a", "a"], "labels": ["x", "y"]}, ["all different"]),
        ({"columns": "label", "labels": ["x", "y"]}, ["all different"]),
        ({"columns": 3, "labels": ["x", "y"]}, ["columns: 3", "quotes"]),
        ({"columns": [None], "labels": ["x", "y"]}, ["columns[0]: None"]),
        ({"columns": "text", "problem": "ranking"}, ["'ranking'", "classification, regression"]),
        ({"columns": "text", "problem": "regression", "labels": ["a", "b"]}, ["no labels"]),
        ({"columns": "text", "labels": ["a", "b"], "metrics": "bleu"}, ["bleu", "accuracy, f1, matthews"]),
        ({"columns": "text", "labels": ["a", "b"], "metrics": ["pearson"]}, ["pearson", "accuracy"]),
        ({"columns": "text", "labels": ["a", "b"], "metrics": []}, ["one or more"]),
        ({"columns": "text", "labels": ["a", "b"], "metrics": ["f1", "f1"]}, ["each once"]),
    ],
)
def test_own_task_refused_in_one_line(mapping: object, words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskSpec.from_mapping("own", mapping)
    message = str(caught.value)
    assert "'own'" in message
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-a", "A", "a/b", "a b", "é", "a" * 65, 3, None, "a\n", "a..", "a.samples"]
)
def test_task_names_refused(name: object) -> None:
    with pytest.raises(ConfigurationError, match="task name"):
        TaskSpec.from_mapping(name, {"columns": "text", "labels": ["a", "b"]})


@pytest.mark.parametrize("name", ["a", "0", "rte-2.1_x", "a" * 64])
def test_task_names_accepted(name: str) -> None:
    assert TaskSpec(name, ("text",), labels=("a", "b")).name == name


def test_parts_that_do_not_fit_together_are_refused() -> None:
    rte = TASKS["rte"]
    with pytest.raises(ConfigurationError, match="reach each of the labels"):
        dataclasses.replace(rte, label_values={"yes": 0})
    with pytest.raises(ConfigurationError, match="2 column"):
        dataclasses.replace(rte, alternatives=(("text",),))


class TestTemplates:
    NOTE: ClassVar[dict[str, object]] = {
        "columns": ["product", "subject", "body"],
        "labels": ["a", "b"],
        "template": "{product}: {subject} {body}",
    }

    def test_the_definition_travels(self) -> None:
        spec = TaskSpec.from_mapping("note", self.NOTE | {"delimiter": ";"})
        assert TaskSpec.from_json("note", json.loads(json.dumps(spec.to_json()))) == spec

    def test_an_encoder_decoder_is_asked_with_what_is_joined(self) -> None:
        spec = as_text(TaskSpec.from_mapping("note", self.NOTE))
        assert spec.text is not None
        assert spec.text.prompt == "note text: {}"
        own = TaskSpec.from_mapping("note", self.NOTE | {"problem": "text", "metrics": "accuracy"})
        assert own.text is not None
        assert own.text.prompt == "note text: {}"

    def test_a_prompt_may_take_the_columns_itself(self) -> None:
        mapping = {"columns": ["a", "b", "c"], "problem": "text", "prompt": "{} {} {}?"}
        assert TaskSpec.from_mapping("note", mapping).columns == ("a", "b", "c")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"template": "{product} {subject}"}, "leaves out column 'body'"),
            ({"template": "{product} {subjet} {body}"}, "has column 'subjet'"),
            ({"template": 3}, "quotes"),
            ({"problem": "text", "prompt": "{} {} {}"}, "needs {} once for each of its 1 text columns"),
            ({"delimiter": ";;"}, "one character"),
            ({"delimiter": '"'}, "one character"),
            ({"delimiter": 1}, "one character"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, changes: dict[str, object], words: str) -> None:
        with pytest.raises(ConfigurationError, match=words):
            TaskSpec.from_mapping("note", self.NOTE | changes)


def test_a_task_travels_with_all_that_reads_its_data() -> None:
    """A bundle says it of a known task, too: another one may be called like it."""
    for spec in (
        TASKS["sst2"],
        TaskSpec.from_mapping("sst2", {"columns": "review", "labels": {"1": "no", "2": "yes"}}),
    ):
        read = TaskSpec.from_json("sst2", json.loads(json.dumps(spec.to_json())))
        assert (read, read.name) == (spec, "sst2")


def test_raw_values_that_are_the_same_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"map one value twice among '1', '1.0'"):
        TaskSpec.from_mapping("own", {"columns": "text", "labels": {"1": "a", "1.0": "b"}})
