import hashlib
import json
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from propetl.data.generated import GENERATED, generated_rows, write_generated
from propetl.data.grammar import likeness
from propetl.data.grammar.words import PLACES
from propetl.data.metrics import compute
from propetl.data.tables import load_split
from propetl.errors import ConfigurationError, TaskError

TASK_NAMES = tuple(GENERATED)


def test_there_are_two_single_tasks_a_pair_and_a_regression() -> None:
    shapes = Counter((len(spec.columns), spec.problem) for spec in GENERATED.values())
    assert shapes == {(1, "classification"): 2, (2, "classification"): 1, (2, "regression"): 1}


@pytest.mark.parametrize("task", TASK_NAMES)
def test_no_row_occurs_twice(task: str) -> None:
    train, dev = generated_rows(task)
    assert (len(train), len(dev)) == (4096, 512)
    assert len({row.texts for row in (*train, *dev)}) == 4096 + 512


@pytest.mark.parametrize("task", TASK_NAMES)
def test_labels_balance(task: str) -> None:
    for rows in generated_rows(task, train_rows=1201, dev_rows=600):
        counts = Counter(row.label for row in rows)
        assert len(counts) == (6 if task == "likeness" else GENERATED[task].outputs)
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize(
    ("task", "digest"),
    [
        ("verdict", "27a4ff17e58d12db"),
        ("topic", "baa8a7ed36d84fda"),
        ("roles", "d6bebf3aa8dac603"),
        ("likeness", "37f0cda88a1dcce7"),
    ],
)
def test_rows_of_seed_0_never_change(task: str, digest: str) -> None:
    """The same on every machine and every run; a changed grammar has to change these on purpose."""
    train, dev = generated_rows(task, train_rows=500, dev_rows=100, seed=0)
    content = json.dumps([[*row.texts, row.label] for row in (*train, *dev)])
    assert hashlib.sha256(content.encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("task", TASK_NAMES)
def test_another_seed_gives_other_rows(task: str) -> None:
    assert generated_rows(task, 50, 50, seed=1) != generated_rows(task, 50, 50, seed=2)


def bag_of_words_score(task: str) -> float:
    """Dev score of a linear model over word counts, each sentence's words counted by themselves."""
    spec = GENERATED[task]
    splits = generated_rows(task)
    texts = [
        [
            " ".join(f"{i}_{word}" for i, text in enumerate(row.texts) for word in text.strip(".").split())
            for row in rows
        ]
        for rows in splits
    ]
    labels = [np.array([float(row.label) for row in rows]) for rows in splits]
    last = Ridge() if spec.problem == "regression" else LogisticRegression(max_iter=2000)
    model = make_pipeline(CountVectorizer(token_pattern=r"\S+"), last).fit(texts[0], labels[0])
    return compute([spec.metric], model.predict(texts[1]), labels[1])[spec.metric]


@pytest.mark.parametrize(("task", "near_chance"), [("verdict", 0.6), ("roles", 0.45), ("likeness", 0.2)])
def test_a_bag_of_words_stays_near_chance(task: str, near_chance: float) -> None:
    assert bag_of_words_score(task) < near_chance


def test_a_bag_of_words_solves_the_topic() -> None:
    assert bag_of_words_score("topic") > 0.97


def test_likeness_is_the_weight_of_the_parts_repeated() -> None:
    action_of = {verb: number for number, pair in enumerate(likeness.ACTIONS) for verb in pair}

    def parts(text: str) -> tuple[str, int, str, str]:
        place = next(place for place in PLACES if place in text)
        _, agent, verb, _, patient = text.strip(".").replace(place, "").strip(", ").split()
        return agent, action_of[verb], patient, place

    rng = Random(0)
    for score in range(6):
        for _ in range(50):
            first, second = (parts(text) for text in likeness.texts(rng, score))
            same = [a == b for a, b in zip(first, second, strict=True)]
            assert sum(weight for weight, kept in zip((1, 2, 1, 1), same, strict=True) if kept) == score


def test_written_folder_is_read_like_glue(tmp_path: Path) -> None:
    files = write_generated(tmp_path / "data", train_rows=60, dev_rows=12)
    assert len(files) == 2 * len(GENERATED)
    for name, spec in GENERATED.items():
        for split, size in (("train", 60), ("dev", 12)):
            rows = load_split(spec, tmp_path / "data", split)
            assert len(rows) == size
            assert rows.source == str(tmp_path / "data" / name / f"{split}.tsv")
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]


def test_own_folder_is_written_over_and_keeps_its_other_tasks(tmp_path: Path) -> None:
    write_generated(tmp_path, ["verdict", "topic"], 20, 10, seed=1)
    topic = (tmp_path / "topic" / "train.tsv").read_bytes()
    verdict = (tmp_path / "verdict" / "train.tsv").read_bytes()
    write_generated(tmp_path, ["verdict"], 20, 10, seed=2)
    assert (tmp_path / "topic" / "train.tsv").read_bytes() == topic
    assert (tmp_path / "verdict" / "train.tsv").read_bytes() != verdict
    note = json.loads((tmp_path / "generated.json").read_text())
    assert {name: record["seed"] for name, record in note["files"].items()} == {
        "verdict/train.tsv": 2,
        "verdict/dev.tsv": 2,
        "topic/train.tsv": 1,
        "topic/dev.tsv": 1,
    }
    for name, record in note["files"].items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == record["sha256"]


@pytest.mark.parametrize("note", [None, b"", b"[]", b"\xff", b'{"format": "other", "files": {}}'])
def test_folder_of_somebody_else_is_left_alone(tmp_path: Path, note: bytes | None) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    if note is not None:
        (tmp_path / "generated.json").write_bytes(note)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ConfigurationError, match="not empty and was not written by propetl data"):
        write_generated(tmp_path, ["topic"], 10, 10)
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(ConfigurationError, match="data is a file"):
        write_generated(tmp_path / "data", ["topic"], 10, 10)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_generated(tmp_path / "data" / "below", ["topic"], 10, 10)


def test_nothing_is_written_where_a_task_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="'mood' is not generated: use one of verdict, topic, roles, likeness"):
        write_generated(tmp_path / "data", ["topic", "mood"], 10, 10)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("sizes", [(0, 10), (10, 0)])
def test_sizes_below_one_are_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ConfigurationError, match="_rows is 0"):
        generated_rows("topic", *sizes)


def test_a_grammar_that_is_used_up_says_so() -> None:
    with pytest.raises(ConfigurationError, match=r"'topic' has no more new rows after .* ask for fewer"):
        generated_rows("topic", 200_000, 1)
