"""A transformers model in memory with a prototype: one's own loop gives a bundle that runs."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)

from propetl.attached import attach
from propetl.backbone import load_backbone
from propetl.errors import ConfigurationError, DataError, TaskError
from propetl.model import ProPETLModel
from propetl.runtime import Session
from tests.tiny_backbone import tiny_backbone

SMALL: dict[str, Any] = {"method": "adapter", "bottleneck": 4}
TEXTS = ["good dog", "bad man", "not good", "was a bad dog"]
LABELS = ["yes", "no", "no", "no"]
LENGTH = 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {family: tiny_backbone(root / family, family) for family in ("bert", "roberta", "t5", "gpt2")}


def parts(folder, cls: Any = AutoModel) -> tuple[Any, Any]:
    return cls.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def attached(folders):
    made = attach(*parts(folders["bert"]), SMALL, max_length=LENGTH)
    made.add_task("mood", labels=["no", "yes"])
    return made


def trained(attached, task, texts, labels, steps=3):
    optimizer = torch.optim.AdamW(attached.parameter_groups(lr=0.01, score_lr=0.01))
    attached.train()
    for _ in range(steps):
        optimizer.zero_grad()
        attached(**attached.encode(task, texts, labels)).loss.backward()
        optimizer.step()
    return attached.eval()


def test_it_is_the_model_that_the_command_line_trains(folders):
    """Same weights, same prototype, same loss as a model made from the folder."""
    ours = attach(*parts(folders["bert"]), SMALL, max_length=LENGTH, seed=3)
    ours.add_task("mood", labels=["no", "yes"])
    backbone = load_backbone(str(folders["bert"]))
    assert ours.network.backbone.info == backbone.info
    theirs = ProPETLModel(backbone, ours.network.config, tasks={"mood": ours.network.infos["mood"]}, seed=3)
    batch = ours.encode("mood", TEXTS, LABELS)
    with torch.no_grad():
        found, expected = (model.eval()(**batch) for model in (ours, theirs))
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.loss, expected.loss)


def test_the_callers_model_stays_as_it_is(folders):
    model, tokenizer = parts(folders["bert"])
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    before = tokenizer.backend_tokenizer.to_str()
    with torch.no_grad():
        expected = model.eval()(**inputs)
    attached = attach(model, tokenizer, SMALL, max_length=LENGTH)
    attached.add_task("mood", labels=["no", "yes"])
    trained(attached, "mood", TEXTS, LABELS)
    with torch.no_grad():
        found = model(**inputs)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
    assert torch.equal(found.pooler_output, expected.pooler_output)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_what_was_learned_is_exported_and_runs(attached, tmp_path):
    trained(attached, "mood", TEXTS, LABELS)
    bundle = attached.save(tmp_path / "bundle", {"mood": {"accuracy": 0.75}})
    assert bundle.tasks == ("mood",) and bundle.info.tasks["mood"].scores == {"accuracy": 0.75}
    with torch.no_grad():
        expected = attached(**attached.encode("mood", TEXTS)).logits.numpy()
    with Session.open(bundle.export(tmp_path / "artifact")) as session:
        assert np.abs(session.run("mood", TEXTS) - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("family", "cls", "definition", "labels"),
    [
        ("t5", AutoModelForSeq2SeqLM, {"labels": ["no", "yes"]}, LABELS),
        ("gpt2", AutoModelForCausalLM, {"labels": ["no", "yes"]}, [1, 0, 0, 0]),
        ("gpt2", AutoModelForCausalLM, {"problem": "text", "max_target_length": 6}, ["a", "b", "c", "d"]),
        ("roberta", AutoModel, {"problem": "regression"}, [0.5, 1, np.float32(2), -1.0]),
        ("roberta", AutoModel, {"problem": "tagging", "labels": ["A", "B"]}, [["A", "B"], "AA", "BA", "ABAB"]),
    ],
)
def test_every_problem_learns(folders, family, cls, definition, labels):
    labels = [list(label) if definition.get("problem") == "tagging" else label for label in labels]
    attached = attach(*parts(folders[family], cls), SMALL, max_length=LENGTH)
    attached.add_task("task", **definition)
    batch = attached.encode("task", TEXTS, labels)
    attached.eval()
    with torch.no_grad():
        before = attached(**batch).loss
    trained(attached, "task", TEXTS, labels, steps=8)
    with torch.no_grad():
        assert attached(**batch).loss < before


def test_an_encoder_is_taken_out_of_a_classifier(folders):
    attached = attach(*parts(folders["bert"], AutoModelForSequenceClassification), SMALL)
    assert attached.network.backbone.info.fingerprint == load_backbone(str(folders["bert"])).info.fingerprint


def test_generated_answers_are_text(folders):
    attached = attach(*parts(folders["t5"], AutoModelForSeq2SeqLM), SMALL, max_length=LENGTH)
    attached.add_task("mood", labels=["no", "yes"])
    answers = attached.eval().generate("mood", attached.encode("mood", TEXTS))
    assert len(answers) == 4 and all(isinstance(answer, str) for answer in answers)


def test_the_trainer_of_transformers_trains_it(attached, tmp_path):
    before = {name: tensor.clone() for name, tensor in attached.network.trainable_state().items()}

    def collate(rows):
        return attached.encode("mood", [row["text"] for row in rows], [row["label"] for row in rows])

    trainer = Trainer(
        attached,
        TrainingArguments(
            str(tmp_path), max_steps=3, per_device_train_batch_size=2, remove_unused_columns=False,
            save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
        ),
        data_collator=collate,
        train_dataset=[{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)],
        optimizers=(torch.optim.AdamW(attached.parameter_groups(lr=0.01, score_lr=0.01)), None),
    )
    trainer.train()
    after = attached.network.trainable_state()
    assert all(not torch.equal(after[name], tensor) for name, tensor in before.items() if tensor.abs().sum())
    assert attached.save(tmp_path / "bundle").tasks == ("mood",)


def test_rates_go_to_their_groups(attached):
    groups = attached.parameter_groups(lr=0.5, score_lr=0.25, weight_decay=0.125)
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {(0.5, 0.125), (0.5, 0.0), (0.25, 0.0)}
    scores = {id(parameter) for _, parameter in attached.network.score_parameters()}
    assert {id(parameter) for parameter in groups[-1]["params"]} == scores
    given = sum(len(group["params"]) for group in groups)
    assert given == sum(parameter.requires_grad for parameter in attached.parameters())


def test_the_rates_of_the_method_are_the_default(attached):
    assert [group["lr"] for group in attached.parameter_groups()] == [1e-4, 1e-4, 3e-3]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["yes", "no", "maybe", "no"], "row 2: label 'maybe' is unknown: give one of no, yes, or an index from 0 to 1"),
        ([0, 1, 2, 0], "row 2: label 2 is unknown"),
        ([0, -1, 0, 0], "row 1: label -1 is unknown"),
        ([True, False, True, True], "row 0: label True is unknown"),
        ([0.0, 1.0, 0.0, 0.0], "row 0: label 0.0 is unknown"),
        (["yes", "no"], "4 texts and 2 labels"),
    ],
)
def test_labels_that_cannot_be_meant(attached, labels, message):
    with pytest.raises(DataError, match=message):
        attached.encode("mood", TEXTS, labels)


def test_names_that_look_like_indices_are_told_apart_by_their_type(folders):
    attached = attach(*parts(folders["bert"]), SMALL)
    attached.add_task("digits", labels=["1", "0"])
    found = attached.encode("digits", TEXTS, ["1", "0", 1, np.int64(0)])["labels"]
    assert found.tolist() == [0, 1, 1, 0]


def test_what_cannot_be_used_is_refused(folders, attached, tmp_path):
    model, tokenizer = parts(folders["bert"])
    with pytest.raises(ConfigurationError, match=r"prototype: unknown key 'botleneck'; did you mean 'bottleneck'"):
        attach(model, tokenizer, {"botleneck": 3})
    with pytest.raises(ConfigurationError, match=r"in torch\.float16: load it with dtype=torch\.float32"):
        attach(AutoModel.from_pretrained(folders["bert"], dtype=torch.float16), tokenizer)
    with pytest.raises(ConfigurationError, match="has positions for"):
        attach(model, tokenizer, max_length=100_000)
    tokenizer.add_tokens(["another"])
    with pytest.raises(ConfigurationError, match="the tokenizer cannot be used: its tokenizer goes up to id"):
        attach(model, tokenizer)
    with pytest.raises(TaskError, match="'other' is not in this model; it has mood"):
        attached.encode("other", TEXTS)
    with pytest.raises(TaskError, match="in this model already"):
        attached.add_task("mood", labels=["a", "b"])
    with pytest.raises(ConfigurationError, match="'mood' has run on no batch yet"):
        attached.save(tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
