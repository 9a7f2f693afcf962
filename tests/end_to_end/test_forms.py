"""All forms of one bundle compute the function that PyTorch computes: random bundles over methods and families.

The cases cover every pair of method and family, and each method with both heads, shared and not, with one layer and
more, on random sizes. Tracing is what takes the time, so one export serves all the checks of a case.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from propetl.bundle import add_task
from propetl.export.writer import ExportOptions
from propetl.families import FAMILIES
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.forms.bank import BankForm
from propetl.runtime.session import Session
from tests.exported import exported, random_bundle, torch_logits
from tests.tiny_bundle import random_task

FORMS = ("folded", "switchable", "bank")
SHAPES = [(1, 1), (1, 6), (3, 1), (4, 9), (2, 17)]  # rows, tokens
METHODS = ("adapter", "lora", "prefix")
TASKS = ({"a": 1, "b": 5, "c": 0}, {"a": 2, "b": 3}, {"a": 0}, {"a": 4, "b": 1}, {"a": 5, "b": 2, "c": 0}, {"a": 3})


@dataclass(frozen=True)
class Case:
    """One random bundle."""

    family: str
    config: PrototypeConfig
    head: str
    tasks: dict[str, int]
    sizes: dict[str, int]
    seed: int

    def __str__(self):
        return f"{self.family}-{self.config.method}-{self.config.sharing}-{self.head}-{self.sizes['layers']} layers"


def _case(number, method, family, variant):
    """Variant 0-5 runs through sharing, heads, depth and tasks; the rest is random."""
    random = np.random.default_rng(number)
    heads, rank = int(random.choice([1, 2, 4])), int(random.integers(1, 8))
    config = PrototypeConfig(
        method=method,
        sharing="unshared" if variant in (1, 4) else "masked",
        sparsity=float(random.choice([0.05, 0.3, 0.5, 1.0])),
        bottleneck=int(random.integers(1, 10)),
        sites=("attention", "ffn") if variant in (2, 4, 5) else ("ffn",),
        activation=str(random.choice(["relu", "gelu", "tanh", "silu"])),
        rank=rank,
        alpha=1.5 * rank,  # as in the paper; more would only magnify float32's rounding
        targets=("query", "key", "value") if variant == 3 else ("query", "value"),
        prefix_length=int(random.integers(1, 9)),
    )
    sizes = {"hidden": heads * 2 * int(random.integers(3, 9)), "heads": heads, "layers": 2 if variant in (0, 3) else 1}
    return Case(family, config, "own" if variant % 2 else "linear", TASKS[variant], sizes, number)


def _cases():
    for number, (method, family) in enumerate(product(METHODS, FAMILIES)):
        variant = (list(FAMILIES).index(family) + 2 * METHODS.index(method)) % 6
        yield _case(number, method, family, variant)
    yield _case(18, "head", "bert", 0)


CASES = list(_cases())


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request, tmp_path_factory):
    """A bundle exported in every form, PyTorch's model of it, and what PyTorch answers."""
    chosen = request.param
    root = tmp_path_factory.mktemp("case")
    backbone, bundle = random_bundle(
        root, chosen.config, chosen.family, chosen.tasks, head=chosen.head, seed=chosen.seed, **chosen.sizes
    )
    return exported(backbone, bundle, root / "artifact", ExportOptions(forms=FORMS))


@pytest.fixture(scope="module")
def model(case):
    return case.model()


def agree(found, expected):
    """To 1e-5, absolute and relative, as ``propetl validate`` asks."""
    assert found.shape == expected.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_function_of_pytorch(case, model, form):
    with Session.open(case.path, form=form, threads=1, verify=False) as session:
        assert set(session.tasks) == set(case.bundle.packs)
        for task, shape in product(session.tasks, SHAPES):
            feeds = case.rows(*shape)
            agree(session.run(task, feeds), torch_logits(model, task, feeds))


def test_a_bank_serves_rows_of_any_tasks_at_once(case, model):
    form = BankForm(read_artifact(case.path), EngineOptions(threads=1))
    random, tasks = np.random.default_rng(0), sorted(case.bundle.packs)
    for rows, length in [*SHAPES, (7, 5)]:
        feeds, chosen = case.rows(rows, length), random.choice(tasks, rows)
        found = form.infer_mixed([form.bind(str(task)) for task in chosen], feeds)
        for row, task in enumerate(chosen):
            single = {name: ids[row : row + 1] for name, ids in feeds.items()}
            agree(found[row][None], torch_logits(model, str(task), single))


def test_switchable_takes_a_task_that_was_trained_later(case):
    """With more labels than any task that was there when the graph was made."""
    later = random_task(
        case.bundle.info.layout, 7, np.random.default_rng(99), case.bundle.info.head, case.token_inputs()
    )
    add_task(case.bundle.path, "later", later)
    model = case.model()
    with Session.open(case.path, form="switchable", threads=1, verify=False) as session:
        assert session.add_task(case.bundle.path / "tasks" / "later.safetensors") == "later"
        for shape in SHAPES:
            feeds = case.rows(*shape)
            agree(session.run("later", feeds), torch_logits(model, "later", feeds))


def test_answers_differ_between_tasks(case, model):
    """So that a form which mixed tasks up would be found out."""
    feeds, tasks = case.rows(4, 9), list(case.bundle.packs)
    answers = [torch_logits(model, task, feeds)[:, :1] for task in tasks]
    assert all(np.abs(answers[0] - other).max() > 1e-2 for other in answers[1:])


def test_the_cases_cover_what_they_say():
    def seen(*keys):
        return {
            tuple(str(getattr(case.config, key, None) or getattr(case, key, None)) for key in keys) for case in CASES
        }

    assert seen("method", "family") >= set(product(METHODS, FAMILIES))
    assert seen("method", "sharing") >= set(product(METHODS, ("masked", "unshared")))
    assert seen("method", "head") >= set(product(METHODS, ("linear", "own")))
    assert {outputs for case in CASES for outputs in case.tasks.values()} == {0, 1, 2, 3, 4, 5}
    assert {case.config.sites for case in CASES if case.config.method == "adapter"} == {("ffn",), ("attention", "ffn")}
    assert {case.sizes["layers"] for case in CASES} == {1, 2}
