"""From a model to the contents of a bundle."""

import numpy as np
import pytest

from propetl.harvest import bundle_contents, task_contents
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from tests.tiny_bundle import sample_rows, task_info

SAMPLES = sample_rows(np.random.default_rng(0))


def model_of(bert, **config):
    tasks = {"two": task_info(2), "value": task_info(0)}
    return ProPETLModel(bert, PrototypeConfig(**{"bottleneck": 3, "rank": 2, "prefix_length": 3} | config), tasks=tasks)


@pytest.mark.parametrize("sharing", ["masked", "unshared"])
@pytest.mark.parametrize("method", ["adapter", "lora", "prefix", "ia3", "head"])
def test_every_tensor_has_the_shape_of_the_layout(bert, method, sharing):
    model = model_of(bert, method=method, sharing=sharing)
    contents = bundle_contents(model, 17, {"two": SAMPLES, "value": SAMPLES}, {"two": {"accuracy": 0.5}})
    layout = model.layout
    assert {name: tensor.shape for name, tensor in contents.prototype.items()} == layout.prototype_shapes()
    for task in contents.tasks.values():
        assert {name: tensor.shape for name, tensor in task.masks.items()} == layout.mask_shapes()
        assert {name: tensor.shape for name, tensor in task.weights.items()} == layout.weight_shapes()
    everything = (
        contents.prototype,
        *(group for task in contents.tasks.values() for group in (task.weights, task.head)),
    )
    assert all(tensor.dtype == np.float32 for group in everything for tensor in group.values())


def test_what_is_known_of_the_run(bert):
    contents = bundle_contents(model_of(bert), 17, {"two": SAMPLES, "value": SAMPLES}, {"two": {"accuracy": 0.5}})
    assert contents.backbone == bert.info and contents.tokenizer == bert.tokenizer_files
    assert (contents.max_length, contents.head) == (17, "linear") and contents.created_by.startswith("propetl ")
    assert contents.tasks["two"].info.scores == {"accuracy": 0.5} and contents.tasks["value"].info.scores == {}
    assert contents.tasks["two"].info.labels == ("label 0", "label 1")


def test_arrays_are_copies_that_later_training_does_not_change(bert):
    model = model_of(bert)
    contents = task_contents(model, "two", SAMPLES, {})
    before = contents.head["weight"].copy()
    model.head_tensors("two")["weight"].data.add_(1)
    assert np.array_equal(contents.head["weight"], before)


def test_full_fine_tuning_keeps_the_backbone(bert):
    model = ProPETLModel(bert, PrototypeConfig(method="full"), tasks={"two": task_info(2)})
    weights = task_contents(model, "two", SAMPLES, {}).weights
    assert set(weights) == {f"backbone.{name}" for name in bert.model.state_dict()}
