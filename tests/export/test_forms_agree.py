"""All forms of a bundle compute what PyTorch computes, to 1e-5, on random bundles, inputs and tasks."""

from itertools import product
from typing import get_args

import numpy as np
import pytest

from propetl.errors import TaskError
from propetl.export.options import ExportOptions
from propetl.families import FAMILIES
from propetl.prototypes.registry import METHODS
from propetl.prototypes.spec import MaskKind
from propetl.runtime import Session
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.forms.bank import BankForm
from propetl.runtime.forms.staged import StagedForm
from tests.export.agreement import (
    assert_a_later_task_runs_beside_the_others,
    assert_every_form_is_the_torch_model,
    assert_mixed_rows_are_those_alone,
    close,
    row_of,
)
from tests.export.cases import CASES, HYBRID_CASES
from tests.export.random_artifact import ALL_FORMS, make

ENCODERS = {family.name for family in FAMILIES.values() if not family.generates}


def test_the_cases_cover_rules_methods_and_languages_of_hybrid_masks() -> None:
    hybrid = [case.config for case in HYBRID_CASES]
    assert {(config.method, config.combine) for config in hybrid} >= {
        (method, rule) for method in ("adapter", "lora", "prefix") for rule in ("or", "and", "add")
    }
    assert {(config.combine, bool(config.languages)) for config in hybrid} == {
        (rule, spoken) for rule in ("or", "and", "add") for spoken in (False, True)
    }
    assert {case.family for case in HYBRID_CASES} == ENCODERS


def test_the_cases_cover_families_methods_and_widths_of_heads() -> None:
    assert {case.config.masks for case in CASES} == set(get_args(MaskKind))
    assert {case.config.method for case in CASES} == {name for name, one in METHODS.items() if not one.trains_backbone}
    assert {outputs for case in CASES for outputs in case.tasks.values()} == {0, 1, 2, 3, 4, 5}
    assert {(case.config.method, case.config.sharing) for case in CASES} >= {
        (method, sharing) for method in ("adapter", "lora", "prefix") for sharing in ("masked", "unshared")
    }
    met = {(case.family, case.config.method) for case in CASES}
    assert met >= {(family, method) for family in ENCODERS for method in ("adapter", "lora", "prefix")}


@pytest.fixture(scope="module", params=CASES, ids=str)
def random_artifact(request, tmp_path_factory):
    return make(tmp_path_factory.mktemp("random"), request.param, ExportOptions(forms=ALL_FORMS))


def test_every_form_is_the_torch_model(random_artifact) -> None:
    assert_every_form_is_the_torch_model(random_artifact, drawn=12)


def test_a_batch_of_mixed_tasks_is_its_rows_one_by_one(random_artifact) -> None:
    texts = ["a man, a dog", "no good", "not bad at all, man!", "the dog was bad", "is", "man is not a dog"]
    rows = [(task, row_of(task, text)) for text in texts for task in random_artifact.manifest.tasks]
    for form in ("bank", "switchable"):
        with Session.open(random_artifact.artifact, form=form, threads=1) as session:
            assert_mixed_rows_are_those_alone(session, rows)


def test_rows_of_token_ids_pick_their_tasks(random_artifact) -> None:
    """Against PyTorch, whose every row is run alone."""
    artifact = read_artifact(random_artifact.artifact)
    one_graph = BankForm(artifact, EngineOptions(threads=1))
    forms = [
        one_graph,
        *(StagedForm(artifact, form, EngineOptions(threads=1), 1 << 20) for form in ("bank", "switchable")),
    ]
    random, tasks = np.random.default_rng(0), sorted(random_artifact.manifest.tasks)
    for form, (rows, length) in product(forms, [(1, 1), (3, 1), (7, 5), (4, 17)]):
        inputs, chosen = random_artifact.inputs(rows, length), [str(task) for task in random.choice(tasks, rows)]
        found = form.infer_mixed([form.bind(task) for task in chosen], inputs)
        for row, task in enumerate(chosen):
            alone = {name: ids[row : row + 1] for name, ids in inputs.items()}
            close(found[row][None], random_artifact.logits(task, alone))


def test_answers_differ_between_tasks(random_artifact) -> None:
    """So that a form which mixed tasks up would be found out."""
    inputs = random_artifact.inputs(4, 9)
    first, *others = (random_artifact.logits(task, inputs)[:, :1] for task in random_artifact.manifest.tasks)
    assert all(np.abs(first - other).max() > 1e-2 for other in others)


def test_a_task_that_came_later_runs_in_the_switchable_graph(random_artifact) -> None:
    """Trained over the same prototype, with more labels than any task that was exported."""
    with Session.open(random_artifact.artifact, form="switchable", threads=1) as session:
        with pytest.raises(TaskError, match="later"):
            session.run("later", random_artifact.inputs(1, 1))
        assert_a_later_task_runs_beside_the_others(random_artifact, session, 7)
