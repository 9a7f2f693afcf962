"""A run goes on with the rows, labels, tasks and backbone that it was started with, or not at all."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from propetl.data.tables import Rows
from propetl.errors import ConfigurationError
from propetl.training import fit as fit_module
from propetl.training.inputs import fingerprints_of_rows
from propetl.training.run import train
from propetl.training.tasks import TaskRows
from tests.propetl.training.conftest import TASKS, Killed, files_of, kill, small_config
from tests.tiny_backbone import tiny_backbone

OPTIONS = {"max_steps": 2, "eval_every": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def places(tmp_path_factory, data_folder):
    """Data and backbone that tests may change, and a run over them that was killed before it left a bundle."""
    root = tmp_path_factory.mktemp("same")
    shutil.copytree(data_folder, root / "data")
    places = {"data": root / "data", "backbone": tiny_backbone(root / "bert"), "output": root / "run"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "best_evaluation", kill)
        with pytest.raises(Killed):
            train(small_config(places, **OPTIONS))
    shutil.copytree(root, root / "kept")
    return places


@pytest.fixture
def make(places):
    """Configurations over :func:`places`, which each test finds as they were."""
    root = places["output"].parent
    for path in places.values():
        shutil.rmtree(path)
        shutil.copytree(root / "kept" / path.name, path)
    return partial(small_config, places, **OPTIONS)


def refused(config, match, **manner):
    """Going on is one line, and changes no file."""
    before = files_of(config.output)
    with pytest.raises(ConfigurationError, match=match) as error:
        train(config, resume=True, **manner)
    assert "\n" not in str(error.value)
    assert files_of(config.output) == before


def with_rows(config, task, split, change):
    """Changes the rows in a file."""
    path = Path(config.data) / task / f"{split}.tsv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *change(rows), ""]))


def first_row(replacement):
    return lambda rows: [replacement(rows[0]), *rows[1:]]


CHANGES = {
    "fewer": (lambda rows: rows[:-1], r"\d+ rows then, \d+ now"),
    "more": (lambda rows: [*rows, rows[0]], r"\d+ rows then, \d+ now"),
    "a label": (first_row(lambda row: row[:-1] + ("1" if row[-1] == "0" else "0")), "other labels of the same texts"),
    "a text": (first_row(lambda row: f"new {row}"), "as many rows with other texts"),
    "the order": (lambda rows: [*rows[1:], rows[0]], "the same rows in another order"),
}


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize("change", CHANGES)
def test_other_rows_are_refused(make, change, split):
    config = make()
    how, what = CHANGES[change]
    with_rows(config, "mood", split, how)
    refused(config, rf"--resume: data: {split} rows of mood are not those that the run in .*{what}")


def test_unchanged_it_goes_on_and_an_ended_run_keeps_its_rows(make):
    config = make()
    (result,) = train(config, resume=True)
    (again,) = train(config, resume=True)
    assert again.finished_before
    assert again.scores == result.scores
    with_rows(config, "topic", "train", lambda rows: rows[:-1])
    refused(config, "train rows of topic are not those")


def test_the_order_of_labels_and_of_tasks_counts(make):
    turned = {**TASKS["mood"], "labels": ["good", "bad"]}
    refused(make(tasks={"mood": turned, "topic": TASKS["topic"]}), r"tasks\.mood\.labels is \['good', 'bad'\]")
    refused(make(tasks=("topic", "mood")), r"tasks is \['topic', 'mood'\]")


def test_a_mapping_of_labels_keeps_its_order(make, tmp_path):
    """A mapping with the same entries is equal in whatever order, but classes are numbered by it."""
    entries = {0: "bad", 1: "good"}
    configs = [
        make(tasks={"mood": {"columns": "text", "labels": dict(order)}}, output=str(tmp_path / "mapped"))
        for order in (entries.items(), reversed(entries.items()))
    ]
    train(configs[0])
    refused(configs[1], r"tasks\.mood\.labels is \['good', 'bad'\]")
    assert train(configs[0], resume=True)[0].finished_before


def test_another_backbone_is_refused(make, places):
    path = places["backbone"] / "model.safetensors"
    weights = load_file(path)
    save_file({**weights, "embeddings.LayerNorm.bias": weights["embeddings.LayerNorm.bias"] + 1}, path)
    refused(make(), "--resume: backbone: its weights is not what the run in .* was started with")


@pytest.mark.parametrize(
    ("file", "old", "new", "part"),
    [("config.json", '"layer_norm_eps": 1e-12', '"layer_norm_eps": 1e-5', "configuration"),
     ("tokenizer.json", '"lowercase": true', '"lowercase": false', "tokenizer")],
)  # fmt: skip
def test_other_settings_of_the_backbone_are_refused(make, places, file, old, new, part):
    path = places["backbone"] / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    refused(make(), f"--resume: backbone: its {part} is not what")


def test_of_tasks_trained_alone_all_are_checked_before_the_first_goes_on(make, tmp_path, monkeypatch):
    config = make(output=str(tmp_path / "alone"))
    train(config, separate=True)
    (config.output / "mood" / "train.json").unlink()
    with_rows(config, "topic", "dev", lambda rows: rows[1:])
    monkeypatch.setattr(fit_module, "encode_tasks", kill)
    refused(config, "dev rows of topic are not those", separate=True)


def test_an_added_task_keeps_its_rows(make, tmp_path, monkeypatch):
    (joint,) = train(make(output=str(tmp_path / "joint"), tasks=("mood",)))
    config = make(output=str(tmp_path / "added"), tasks=("topic",))
    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "best_evaluation", kill)
        with pytest.raises(Killed):
            train(config, add_to=joint.bundle)
    with_rows(config, "topic", "train", lambda rows: [*rows[1:], rows[0]])
    bundle = files_of(joint.bundle)
    refused(config, "the same rows in another order", add_to=joint.bundle)
    assert files_of(joint.bundle) == bundle


def test_shards_are_those_that_the_run_began_with(make):
    config = make()
    settings = config.output / "train-config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"shards": 4}))
    (result,) = train(config, resume=True)
    assert json.loads((result.output / "train.json").read_text())["conditions"]["shards"] == 4
    refused(make(shards=2), "--resume: shards is 2, but the run in .* was started with 4")


@pytest.mark.parametrize("changes", [{"max_steps": 3}, {"eval_every": 1}, {"learning_rate": 0.5}], ids=str)
def test_other_steps_and_rates_are_refused(make, changes):
    refused(make(**changes), f"--resume: {next(iter(changes))} is ")


def test_defaults_that_are_spelt_out_are_no_change(make):
    train(make(learning_rate=1e-4, score_learning_rate=3e-3, save_every=2), resume=True)


def test_fingerprints_tell_rows_apart_where_columns_meet():
    """A text that ends where its neighbour begins, and labels of every kind."""
    rows = [
        Rows([("ab", "c")], np.array([0]), ""),
        Rows([("a", "bc")], np.array([0]), ""),
        Rows([("abc",)], np.array([0]), ""),
        Rows([("ab\nc",)], np.array([0]), ""),
        Rows([("abc",)], np.array(["0"], dtype=object), ""),
        Rows([("abc",)], np.array([0.5], dtype=np.float32), ""),
        Rows([("abc",)], np.fromiter([("O", "B-X")], dtype=object, count=1), ""),
    ]
    found = {json.dumps(fingerprints_of_rows({"task": TaskRows(one, one)})) for one in rows}
    assert len(found) == len(rows)
