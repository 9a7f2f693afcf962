"""Programs with the task's tensors as arguments, run eagerly against the model."""

import numpy as np
import pytest
import torch

from propetl.bundle.reader import read_bundle
from propetl.export.golden import text_inputs_of
from propetl.export.graphs import bank_of
from propetl.export.program import BareProgram, Program, RowsProgram
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.manifest import TensorSignature
from propetl.runtime.signatures import task_tensors
from tests.export.random_artifact import Case, random_bundle, random_inputs, torch_logits

KINDS = {
    "masked": {},
    "unshared": {"sharing": "unshared"},
    "hybrid-or": {"masks": "hybrid"},
    "hybrid-and": {"masks": "hybrid", "combine": "and", "languages": ("de", "en")},
    "hybrid-add": {"masks": "hybrid", "combine": "add", "languages": ("de", "en")},
    "only-layers": {"masks": "only-layers"},
    "only-tasks": {"masks": "only-tasks"},
    "tasks": {"sharing": "tasks"},
}
METHODS = [
    (method, kind)
    for method in ("adapter", "lora", "prefix", "ia3", "head")
    for kind in (KINDS if method != "head" else ("masked", "unshared"))
]


@pytest.fixture(scope="module", params=METHODS, ids="-".join)
def made(request, tmp_path_factory):
    """Sizes that fill no whole bytes, so that the last bits of each mask are padding."""
    method, kind = request.param
    config = PrototypeConfig(method=method, bottleneck=3, rank=3, prefix_length=3, **KINDS[kind])
    case = Case("bert", config, "own", hidden=20, tasks={"two": 2, "four": 4, "value": 0})
    backbone, bundle = random_bundle(tmp_path_factory.mktemp("made"), case)
    model = ProPETLModel.from_bundle(bundle, backbone)
    return model, bundle, random_inputs(text_inputs_of(model), 0, 5, 9)


def torch_of(arrays):
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def close(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_one_task_for_the_batch(made):
    model, bundle, feeds = made
    program = Program(model).eval()
    for task, pack in bundle.packs.items():
        close(program(torch_of(feeds), torch_of(pack.tensors())), torch_logits(model, task, feeds))


def test_a_task_for_each_row(made):
    model, bundle, feeds = made
    packs = list(bundle.packs.values())
    task_ids = torch.tensor([2, 0, 1, 1, 0])
    rows = {name: tensor[task_ids] for name, tensor in torch_of(bank_of(packs)).items()}
    found = RowsProgram(model).eval()(torch_of(feeds), rows)
    assert found.shape == (5, 4)
    for row, task_id in enumerate(task_ids.tolist()):
        outputs = packs[task_id].info.outputs
        expected = torch_logits(model, packs[task_id].task, {name: ids[row : row + 1] for name, ids in feeds.items()})
        close(found[row : row + 1, :outputs], expected)
        assert not found[row, outputs:].any()


def test_the_bare_program_has_no_prototype(made):
    model, bundle, feeds = made
    head = bundle.packs["two"].tensors()
    found = BareProgram(model)(torch_of(feeds), torch_of({name: head[name] for name in ("head.weight", "head.bias")}))
    with torch.no_grad():
        first = model.backbone.model(**torch_of(feeds)).last_hidden_state[:, 0].numpy()
    close(found, first @ head["head.weight"].T + head["head.bias"])


def test_arguments_are_the_tensors_of_the_pack(made):
    model, bundle, _ = made
    expected = {tensor.name: tensor for tensor in task_tensors(model.layout, model.head_kind)}
    for pack in bundle.packs.values():
        assert set(pack.tensors()) == set(expected)
        for name, array in pack.tensors().items():
            sizes = [pack.info.outputs if size == "labels" else size for size in expected[name].shape]
            assert (list(array.shape), array.dtype) == (sizes, np.dtype(expected[name].dtype))


def test_arguments_of_a_linear_head(tmp_path):
    backbone, bundle = random_bundle(tmp_path, Case("bert", PrototypeConfig(bottleneck=3), hidden=32, tasks={"two": 2}))
    model = ProPETLModel.from_bundle(read_bundle(bundle.path), backbone)
    assert task_tensors(model.layout, model.head_kind) == (
        TensorSignature("mask.down.weight", "uint8", (2, 12)),
        TensorSignature("mask.up.weight", "uint8", (2, 12)),
        TensorSignature("head.bias", "float32", ("labels",)),
        TensorSignature("head.weight", "float32", ("labels", 32)),
    )
