"""Training tasks that tag words, alone and beside others."""

import json
from pathlib import Path

import numpy as np
import pytest

from propetl.backbone import load_backbone
from propetl.bundle import read_bundle
from propetl.errors import DataError
from propetl.model import ProPETLModel
from propetl.training.evaluate import evaluate_tasks
from propetl.training.processes import Processes
from propetl.training.run import train
from propetl.training.tasks import load_tasks, tokenizer_of
from tests.propetl.training.conftest import TASKS

LABELS = ["O", "B-X", "I-X"]
SHAPES = {"problem": "tagging", "labels": LABELS, "metrics": ["entity_f1", "word_accuracy"]}


@pytest.fixture(scope="module")
def tagged_data(data_folder: Path) -> Path:
    """Words of ``x`` and ``z`` are entities, the first of neighbours begins one; all others are none."""
    folder, random = data_folder / "shapes", np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for split, sentences in (("train", 96), ("dev", 16)):
        (folder / f"{split}.conll").write_text("\n".join(_sentence(random) for _ in range(sentences)), "utf-8")
    return data_folder


def _sentence(random: np.random.Generator) -> str:
    words = [
        "".join(random.choice(list("xz" if random.random() < 0.4 else "mnop"), 2)) for _ in range(random.integers(1, 7))
    ]
    entity = [word[0] in "xz" for word in words]
    before = [False, *entity[:-1]]
    tags = ["O" if not here else "I-X" if there else "B-X" for here, there in zip(entity, before, strict=True)]
    return "".join(f"{word} {tag}\n" for word, tag in zip(words, tags, strict=True))


def test_tags_are_learned_beside_a_class(make_config, tagged_data) -> None:
    config = make_config(
        tasks={"shapes": SHAPES, "mood": TASKS["mood"]},
        max_steps=160,
        eval_every=80,
        batch_size=16,
        dropout=0.0,
        learning_rate=2e-2,
        score_learning_rate=3e-2,
        label_smoothing=0.05,
    )
    (result,) = train(config)
    assert result.scores["shapes"]["entity_f1"] > 0.5
    assert result.scores["shapes"]["word_accuracy"] > 0.75  # six in ten words are no entities
    bundle = read_bundle(result.bundle)
    assert bundle.info.tasks["shapes"].kind.answers_words
    assert bundle.packs["shapes"].head["weight"].shape == (3, bundle.info.backbone.hidden_size)
    assert result.average == pytest.approx(
        (result.scores["shapes"]["entity_f1"] + result.scores["mood"]["accuracy"]) / 2
    )


def test_a_bundle_gives_the_scores_of_its_training(make_config, tagged_data) -> None:
    config = make_config(tasks={"shapes": SHAPES}, max_steps=4, head="own")
    (result,) = train(config)
    backbone = load_backbone(config.backbone)
    model = ProPETLModel.from_bundle(read_bundle(result.bundle), backbone)
    assert set(model.head_tensors("shapes")) == {"weight", "bias"}  # whatever the kind of the others' heads
    tasks = load_tasks(config, tokenizer_of(backbone))
    # Batches of another size pad otherwise, which changes no answer.
    found = evaluate_tasks(model, tasks, 3, Processes())
    assert found == result.scores


def test_a_tagger_is_added_to_a_bundle(make_config, tagged_data, tmp_path) -> None:
    (first,) = train(make_config(tasks=("mood",), max_steps=2))
    config = make_config(tasks={"shapes": SHAPES}, max_steps=2, output=str(tmp_path / "added"))
    train(config, add_to=first.bundle)
    bundle = read_bundle(first.bundle)
    assert list(bundle.info.tasks) == ["mood", "shapes"]
    assert bundle.info.tasks["shapes"].labels == tuple(LABELS)


def test_an_unknown_tag_stops_a_run_before_it_begins(make_config, tagged_data) -> None:
    config = make_config(tasks={"shapes": {**SHAPES, "labels": ["O", "B-X", "I-Y"]}})
    with pytest.raises(DataError, match=r"train\.conll, line \d+, word \d+: label 'I-X' is unknown"):
        train(config)


@pytest.mark.parametrize("split", [{"shards": 4}, {"batch_size": 4, "gradient_accumulation": 4}], ids=str)
def test_a_step_in_parts_logs_the_same_losses(make_config, tagged_data, tmp_path, split) -> None:
    """Sentences differ in length, so a mean of the parts' means would weigh their words differently."""
    options = {"tasks": {"shapes": SHAPES}, "max_steps": 3, "dropout": 0.0, "group_by_length": False}
    losses = []
    for place, changes in enumerate(({"batch_size": 16, "shards": 1}, {"batch_size": 16, **split})):
        (result,) = train(make_config(**options, **changes, output=str(tmp_path / str(place))))
        entries = [json.loads(line) for line in (result.output / "log.jsonl").read_text().splitlines()]
        losses.append([entry["loss"] for entry in entries if "loss" in entry])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
