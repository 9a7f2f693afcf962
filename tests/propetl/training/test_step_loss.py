"""The loss of an optimizer step does not depend on how the step is split into shards, processes and batches."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from propetl.bundle.text import TextInfo
from propetl.bundle.words import IGNORED
from propetl.data.tokenise import EncodedRows, collate_with
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.task import TaskSpec
from propetl.training.loader import JointRows, loss_divisors
from propetl.training.processes import Processes
from propetl.training.tasks import Split, tokenizer_of

ROWS = 24
INFOS = {
    "shapes": TaskSpec("shapes", ("text",), problem="tagging", labels=("O", "B-X", "I-X"), metrics=("entity_f1",)),
    "mood": TaskSpec("mood", ("text",), labels=("bad", "good")),
    "degree": TaskSpec("degree", ("text",), problem="regression", metrics=("pearson",)),
}
ECHO = TaskSpec("task", ("text",), problem="text", metrics=("rouge1",), text=TextInfo("echo {}", max_target_length=8))
# Batches of one optimizer step by task; each is cut into parts below.
STEPS = st.lists(st.sampled_from(list(INFOS)), min_size=1, max_size=3)


def _split(task: str, tokenizer: Any) -> Split:
    """Rows of 1 to 12 tokens, whose targets are as many or fewer."""
    random = np.random.default_rng(len(task))
    lengths = [int(length) for length in random.choice([1, 2, 12], size=ROWS)]
    ids = [random.integers(5, 40, size=length).tolist() for length in lengths]
    labels: list[Any] = random.integers(0, 2, size=ROWS).tolist()
    targets = None
    if task == "degree":
        labels = random.normal(size=ROWS).tolist()
    if task in ("shapes", "echo"):
        largest = 3 if task == "shapes" else 40
        targets = [random.integers(0, largest, size=length).tolist() for length in lengths]
    if task == "shapes":
        targets = [[IGNORED if place % 3 == 1 else tag for place, tag in enumerate(row)] for row in targets or []]
    return Split(task, EncodedRows({"input_ids": ids}, labels, targets), collate_with(tokenizer), "made")


@pytest.fixture(scope="module")
def encoder(bert):
    return _model(bert, INFOS)


@pytest.fixture(scope="module")
def generator(backbones):
    return _model(backbones["t5"], {"echo": ECHO})


def _model(backbone, infos):
    """In float64, without dropout, over a backbone of its own, as models share one; and the rows of its tasks."""
    backbone = replace(backbone, model=copy.deepcopy(backbone.model))
    model = ProPETLModel(backbone, PrototypeConfig(bottleneck=4), "linear", infos, seed=1)
    model.set_dropout(0.0)
    model.label_smoothing = 0.1
    tokenizer = tokenizer_of(backbone)
    return model.double(), [_split(task, tokenizer) for task in infos]


def _computed(made, batches, shards, processes):
    """Loss and gradients of one step, as the processes come to them: each adds up, and they are averaged."""
    model, splits = made
    model.zero_grad()
    losses = []
    for index in range(processes):
        rows = JointRows(splits, shards, Processes(index, processes))
        parts = [rows.collate(batch) for batch in batches]
        divisors = loss_divisors(parts)
        for part in parts:
            for shard in part["shards"]:
                loss = model(**shard, divisor=divisors[part["task"]] / processes).loss
                (loss / processes).backward()
                losses.append(loss.item() / processes)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return sum(losses), {name: gradient.clone() for name, gradient in gradients.items()}


def _equal(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-9)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        torch.testing.assert_close(other[1][name], gradient, rtol=1e-6, atol=1e-9, msg=name)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tasks=STEPS, processes=st.sampled_from([1, 2, 3]), more=st.sampled_from([1, 2]), seed=st.integers(0, 99))
def test_shards_and_processes_change_nothing(encoder, tasks, processes, more, seed):
    random = np.random.default_rng(seed)
    names = list(INFOS)
    batches = [[(names.index(task), int(row)) for row in random.permutation(ROWS)[:12]] for task in tasks]
    _equal(_computed(encoder, batches, 1, 1), _computed(encoder, batches, processes * more, processes))


@pytest.mark.parametrize("task", [*INFOS, "echo"])
@pytest.mark.parametrize(("accumulated", "shards", "processes"), [(4, 1, 1), (3, 2, 2), (6, 4, 1), (2, 4, 2)])
def test_accumulated_batches_are_one_batch(encoder, generator, task, accumulated, shards, processes):
    """A last step of fewer batches is the same: only its own batches count."""
    made = generator if task == "echo" else encoder
    place = [split.task for split in made[1]].index(task)
    rows = [(place, row) for row in range(ROWS)]
    size = ROWS // accumulated
    batches = [rows[start : start + size] for start in range(0, ROWS, size)]
    _equal(_computed(made, [rows], 1, 1), _computed(made, batches, shards, processes))


def test_it_is_the_mean_over_all_tokens(encoder):
    """By torch's own mean, over rows that are padded together."""
    model, splits = encoder
    batch = splits[0].batch(range(ROWS))
    labels = batch.pop("labels")
    logits = model(**batch).logits
    expected = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
    found, _ = _computed(encoder, [[(0, row) for row in range(start, start + 6)] for start in (0, 6, 12, 18)], 2, 1)
    assert found == pytest.approx(expected.item(), rel=1e-9)
    assert model(**batch, labels=labels).loss.item() == pytest.approx(expected.item(), rel=1e-9)


def test_tasks_of_a_step_count_by_their_rows(encoder):
    """Tags have many losses a row; a class beside them counts as much as its rows."""
    tags, classes = ([(place, row) for row in range(12)] for place in (0, 1))
    alone = [_computed(encoder, [batch], 1, 1)[0] for batch in (tags, classes)]
    assert _computed(encoder, [tags, classes], 1, 1)[0] == pytest.approx(np.mean(alone), rel=1e-9)
    assert _computed(encoder, [tags, classes[:4]], 1, 1)[0] == pytest.approx(
        (12 * alone[0] + 4 * _computed(encoder, [classes[:4]], 1, 1)[0]) / 16, rel=1e-9
    )
