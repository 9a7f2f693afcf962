"""Tasks of a configuration and their rows."""

import numpy as np
import pytest

from propetl.data.tables import load_split
from propetl.errors import ConfigurationError, DataError
from propetl.training.config_file import config_from
from propetl.training.tasks import load_tasks, specs_of, tokenizer_of
from tests.propetl.training.conftest import DEV_ROWS, ROWS, TASKS


@pytest.fixture(scope="module")
def tokenizer(bert):
    return tokenizer_of(bert)


def test_known_tasks_need_no_definition():
    specs = specs_of({"rte": None, "verdict": None, "mood": TASKS["mood"]})
    assert specs["rte"].labels == ("entailment", "not_entailment")
    assert specs["verdict"].name == "verdict"
    assert specs["mood"].labels == ("bad", "good")


def test_an_own_definition_wins_over_a_known_name():
    assert specs_of({"rte": {"columns": "text", "labels": ["x", "y"]}})["rte"].labels == ("x", "y")


def test_a_task_may_name_its_language():
    specs = specs_of({"rte": {"language": "en"}, "mood": {**TASKS["mood"], "language": "de"}})
    assert (specs["rte"].language, specs["mood"].language) == ("en", "de")
    assert specs["rte"].labels == ("entailment", "not_entailment")  # known by name, and still so
    with pytest.raises(ConfigurationError, match="'rte' has language: True: write it in quotes"):
        specs_of({"rte": {"language": True}})


def test_an_unknown_task_is_named_with_those_there_are():
    with pytest.raises(ConfigurationError, match=r"'rta' has no definition .* cola, .* verdict"):
        specs_of({"rta": None})


def test_rows_are_encoded(make_config, tokenizer):
    mood, topic = load_tasks(make_config(), tokenizer)
    assert (len(mood.train), len(mood.dev)) == (ROWS["mood"], DEV_ROWS)
    assert mood.train.source.endswith("mood/train.tsv")
    assert mood.spec.labels == ("bad", "good")
    assert topic.spec.metrics == ("accuracy", "f1")
    batch = topic.train.batch([3, 0, 7])
    assert batch["task"] == "topic"
    assert batch["labels"].tolist() == [0, 0, 1]
    shape = (3, topic.train.lengths[[3, 0, 7]].max())
    assert {name: tuple(batch[name].shape) for name in ("input_ids", "attention_mask", "token_type_ids")} == {
        "input_ids": shape,
        "attention_mask": shape,
        "token_type_ids": shape,
    }
    assert batch["token_type_ids"].max() == 1


def test_token_types_only_where_the_family_reads_them(make_config, backbones):
    (mood,) = load_tasks(make_config(tasks=["mood"]), tokenizer_of(backbones["roberta"]))
    assert set(mood.train.batch([0])) == {"task", "input_ids", "attention_mask", "labels"}


def test_rows_are_cut_to_the_length(make_config, tokenizer):
    for task in load_tasks(make_config(max_length=9), tokenizer):
        assert task.train.lengths.max() == 9


def test_batches_by_length_hold_every_row_once(make_config, tokenizer):
    _, topic = load_tasks(make_config(), tokenizer)
    batches = list(topic.train.by_length(7))
    assert sorted(place for batch in batches for place in batch) == list(range(ROWS["topic"]))
    in_order = topic.train.lengths[[place for batch in batches for place in batch]]
    assert (np.diff(in_order) <= 0).all()
    assert {len(batch) for batch in batches[:-1]} == {7}


def test_samples_are_the_first_rows(make_config, tokenizer):
    mood, _ = load_tasks(make_config(), tokenizer)
    samples = mood.samples(8)
    assert set(samples) == {"input_ids", "attention_mask", "token_type_ids"}
    assert samples["input_ids"].shape[0] == 8
    assert mood.samples(1000)["input_ids"].shape[0] == DEV_ROWS


def test_limits_choose_the_same_rows_for_every_seed(make_config, tokenizer):
    first, again = (
        load_tasks(make_config(max_train_rows=10, max_dev_rows=5, seed=seed), tokenizer)[0] for seed in (1, 2)
    )
    assert (len(first.train), len(first.dev)) == (10, 5)
    assert first.train.rows.columns == again.train.rows.columns


def test_a_wrong_row_is_named(make_config, tokenizer, tmp_path):
    (tmp_path / "mood").mkdir()
    (tmp_path / "mood" / "train.tsv").write_text("text\tlabel\nfine\t0\nwell\t2\n")
    (tmp_path / "mood" / "dev.tsv").write_text("text\tlabel\nfine\t0\n")
    with pytest.raises(DataError, match=r"train\.tsv, line 3"):
        load_tasks(make_config(tasks=["mood"], data=str(tmp_path)), tokenizer)


def test_how_labels_were_read_goes_into_the_bundle(make_config, tokenizer, tmp_path):
    """Of dev alone it could not be told whether 1 is a name or an index."""
    (tmp_path / "mood").mkdir()
    (tmp_path / "mood" / "train.tsv").write_text("text\tlabel\nfine\t0\nwell\t2\n")
    (tmp_path / "mood" / "dev.tsv").write_text("text\tlabel\nfine\t1\nwell\t2\n")
    tasks = {"mood": {"columns": "text", "labels": ["1", "2", "3"]}}
    (task,) = load_tasks(make_config(tasks=tasks, data=str(tmp_path)), tokenizer)
    assert task.dev.labels.tolist() == [1, 2]
    assert task.spec.label_values == {"0": 0, "1": 1, "2": 2}
    read_again = load_split(task.spec, tmp_path, "dev", max_rows=1)
    assert read_again.labels.tolist() == [1]


def test_one_file_cannot_be_both_splits(tmp_path):
    """Its rows would be trained on and scored on."""
    file = tmp_path / "rows.tsv"
    file.write_text("sentence1\tlabel\na man\t1\n")
    config = config_from({"backbone": "b", "tasks": ["cola"], "data": str(file), "output": "o"}, {}, "test")
    with pytest.raises(ConfigurationError, match="one file; training needs two"):
        load_tasks(config, None)
