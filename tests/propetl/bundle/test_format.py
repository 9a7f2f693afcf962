"""``bundle.json``: what is parsed, and what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.bundle.format import (
    METADATA_KEY,
    BundleInfo,
    check_format,
    metadata,
    pack_path,
    samples_path,
)
from propetl.errors import ArtifactError, BundleError, TaskError
from propetl.prototypes.spec import PrototypeConfig
from propetl.task import TaskSpec, check_task_name
from tests.tiny_bundle import BACKBONE

INFO = BundleInfo(
    backbone=BACKBONE,
    prototype=PrototypeConfig(bottleneck=4, sites=("attention", "ffn")),
    head="own",
    max_length=64,
    tasks={"rte": TaskSpec("rte", ("a", "b"), labels=("no", "yes"), scores={"accuracy": 0.5})},
    files={"x": {"sha256": "0" * 64, "bytes": 1}},
    created_by="tests",
)


def plain(**changes):
    """``bundle.json`` as it is read, with some keys changed."""
    return json.loads(json.dumps(INFO.to_json())) | changes


class TestTaskNames:
    @pytest.mark.parametrize("name", ["rte", "0", "sts-b", "a.b_c-d", "x" * 64, "values", "type"])
    def test_good(self, name):
        assert check_task_name(name) == name

    @pytest.mark.parametrize(
        "name",
        ["", ".", "..", "a..b", "/a", "a/b", "a b", "RTE", "-a", "_a", "x" * 65, "rte\n", "é", "a:b", "a\0"],
    )
    def test_bad(self, name):
        with pytest.raises(TaskError, match=r"task name .*use 1-64"):
            check_task_name(name)

    def test_a_task_cannot_take_the_place_of_anothers_samples(self):
        """``x.samples`` would have its pack where the sample rows of ``x`` stand."""
        with pytest.raises(TaskError, match="samples"):
            check_task_name("x.samples")

    @given(st.lists(st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,12}", fullmatch=True), min_size=2, max_size=2, unique=True))
    def test_files_of_two_tasks_never_collide(self, names):
        try:
            paths = [path for name in names for path in (pack_path(name), samples_path(name))]
        except TaskError:
            return
        assert len(set(paths)) == 4


class TestBundleInfo:
    def test_to_json_and_back(self):
        assert BundleInfo.from_json(plain(), "here") == INFO

    def test_layout(self):
        assert INFO.layout.mask_shapes() == {"down.weight": (4, 6), "up.weight": (4, 6)}

    @pytest.mark.parametrize("value", [None, 3, [], "text", {}, {"format": "other"}])
    def test_another_format(self, value):
        with pytest.raises(BundleError, match="here: expected format 'propetl-bundle'"):
            BundleInfo.from_json(value, "here")

    @pytest.mark.parametrize("version", [2, 0, "1", None])
    def test_a_future_version(self, version):
        with pytest.raises(BundleError, match=r"version .* is not known here \(known: 1\); upgrade propetl"):
            BundleInfo.from_json(plain(version=version), "here")

    @pytest.mark.parametrize("key", ["backbone", "prototype", "head", "max_length", "tasks", "files", "created_by"])
    def test_a_missing_key(self, key):
        value = plain()
        del value[key]
        with pytest.raises(BundleError, match="here"):
            BundleInfo.from_json(value, "here")

    @pytest.mark.parametrize(
        "changes",
        [
            {"backbone": None},
            {"backbone": {"name": "x"}},
            {"backbone": INFO.to_json()["backbone"] | {"hidden_size": "12"}},
            {"backbone": INFO.to_json()["backbone"] | {"layers": None}},
            {"backbone": INFO.to_json()["backbone"] | {"layers": -1}},
            {"backbone": INFO.to_json()["backbone"] | {"fingerprint": 5}},
            {"prototype": 3},
            {"prototype": {"method": "magic"}},
            {"prototype": {"unheard_of": 1}},
            {"prototype": {"bottleneck": "many"}},
            {"prototype": {"bottleneck": 2.5}},
            {"prototype": {"sparsity": "half"}},
            {"prototype": {"sparsity": 1.5}},
            {"head": "two"},
            {"head": None},
            {"max_length": 0},
            {"max_length": "long"},
            {"max_length": float("inf")},
            {"max_length": None},
            {"tasks": []},
            {"tasks": {"../x": {}}},
            {"tasks": {"x": None}},
            {"tasks": {"x": {"problem": "classification"}}},
            {"tasks": {"x": {"problem": "magic", "labels": [], "columns": ["a"], "metrics": ["accuracy"]}}},
            {"tasks": {"x": {"problem": "classification", "labels": [], "columns": ["a"], "metrics": ["f1"]}}},
            {"tasks": {"x": {"problem": "regression", "labels": ["a"], "columns": ["a"], "metrics": ["f1"]}}},
            {"tasks": {"x": {"problem": "classification", "labels": 5, "columns": ["a"], "metrics": ["f1"]}}},
            {"tasks": {"x": {"problem": "classification", "labels": [1], "columns": ["a"], "metrics": ["f1"]}}},
            {"tasks": {"x": {"problem": "classification", "labels": ["a"], "columns": "a", "metrics": ["f1"]}}},
            {"files": None},
            {"files": []},
        ],
    )
    def test_values_of_the_wrong_kind(self, changes):
        with pytest.raises(BundleError, match="here"):
            BundleInfo.from_json(plain(**changes), "here")


class TestTaskInfo:
    def test_outputs(self):
        assert (
            TaskSpec.from_json(
                "a", {"problem": "regression", "labels": [], "columns": ["a"], "metrics": ["pearson"]}
            ).outputs
            == 1
        )
        assert INFO.tasks["rte"].outputs == 2


def test_metadata_is_one_key_so_that_files_are_the_same_byte_for_byte():
    assert metadata({"b": 1, "a": "é"}) == {METADATA_KEY: '{"b":1,"a":"é"}'}


def test_check_format_raises_the_error_that_was_asked_for():
    with pytest.raises(ArtifactError):
        check_format({}, "x", 1, "here", ArtifactError)
