"""Scores of every task, whoever computes them."""

import numpy as np
import pytest
import torch
from transformers.modeling_outputs import SequenceClassifierOutput

from propetl.training.evaluate import AVERAGE, eval_log, evaluate_tasks, scores_in_log
from propetl.training.processes import Processes
from propetl.training.tasks import load_tasks, tokenizer_of


class Oracle(torch.nn.Module):
    """Logits that depend on a row's own tokens alone."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, task, input_ids, attention_mask, token_type_ids):
        assert not self.training
        outputs = {"mood": 2, "topic": 3, "degree": 1}[task]
        logits = (self.weight[input_ids] * attention_mask.unsqueeze(-1)).sum(dim=1)[:, :outputs]
        return SequenceClassifierOutput(logits=logits)


@pytest.fixture(scope="module")
def tokenizer(bert):
    return tokenizer_of(bert)


@pytest.fixture
def tasks(make_config, tokenizer):
    return load_tasks(make_config(tasks=("mood", "topic", "degree")), tokenizer)


def test_each_task_has_its_metrics(tasks):
    scores = evaluate_tasks(Oracle(), tasks, 7, Processes())
    assert {task: tuple(values) for task, values in scores.items()} == {
        "mood": ("accuracy",),
        "topic": ("accuracy", "f1"),
        "degree": ("spearman", "pearson"),
    }


def test_accuracy_is_that_of_the_rows(tasks):
    model = Oracle().eval()
    mood = tasks[0]
    batch = mood.dev.batch(range(len(mood.dev)))
    labels = batch.pop("labels")
    right = (model(**batch).logits.argmax(dim=1) == labels).float().mean().item()
    assert evaluate_tasks(model, [mood], 3, Processes())["mood"]["accuracy"] == pytest.approx(right)


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_the_work_and_agree(tasks, monkeypatch, count):
    """Every process gathers what all of them computed."""
    alone = evaluate_tasks(Oracle(), tasks, 4, Processes())
    parts = {}

    def gather(self, value):
        parts.setdefault(self.index, []).append(value)
        return [value]

    monkeypatch.setattr(Processes, "gather", gather)
    monkeypatch.setattr(Processes, "largest", lambda self, number: number)
    for index in range(count):
        evaluate_tasks(Oracle(), tasks, 4, Processes(index, count))
    for calls in zip(*parts.values(), strict=True):
        places = sorted(place for part in calls for batch, _ in part for place in batch)
        assert places == list(range(len(places)))
    turn = iter(zip(*parts.values(), strict=True))
    monkeypatch.setattr(Processes, "gather", lambda self, value: list(next(turn)))
    assert evaluate_tasks(Oracle(), tasks, 4, Processes(1, count)) == alone


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_in_its_mode(tasks, training):
    model = Oracle().train(training)
    evaluate_tasks(model, tasks, 8, Processes())
    assert model.training is training


def test_the_log_entry_holds_all_scores(tasks):
    scores = evaluate_tasks(Oracle(), tasks, 8, Processes())
    entry = eval_log(scores, tasks)
    assert scores_in_log(entry, tasks) == scores
    main = [scores["mood"]["accuracy"], scores["topic"]["accuracy"], scores["degree"]["spearman"]]
    assert entry[AVERAGE] == pytest.approx(np.mean(main))
