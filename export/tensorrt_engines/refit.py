"""One folded plan for all tasks: the weights that tell tasks apart can be replaced in it, all others cannot.

Folded graphs of one artifact differ in a few constants only: folded weights and heads. They have the same names in
every graph, and the same shapes but for the number of labels. So the plan is built from one of them with its head
filled up with zeros to the widest, and each task's constants, filled up alike, make its refit file. As every file
holds every one of them, changing to a task leaves nothing of the task before.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from propetl import fields
from propetl.bundle.tensors import Arrays, tensor_bytes
from propetl.errors import ArtifactError, BackendError
from propetl.runtime.manifest import GraphInfo
from propetl.strict_json import parse_json

FORMAT = "propetl-refit"
VERSION = 1

TASK_WEIGHTS = "propetl.task_weights"
"""Key of a folded graph's metadata: a JSON list of the constants that are its task's."""


def task_weights_of(graph: ir.Graph, shared: Sequence[str]) -> str:
    """Value of :data:`TASK_WEIGHTS`: float constants that were not there before the task was bound."""
    known = set(shared)
    own = [name for name, value in graph.initializers.items() if value.dtype == ir.DataType.FLOAT and name not in known]
    return json.dumps(own)


def weight_names(models: Mapping[str, ir.Model]) -> tuple[str, ...]:
    """Names of the constants that tell the graphs of ``models`` (by task) apart.

    Raises:
        BackendError: the graphs do not have the same.
    """
    named = {task: _named(model) for task, model in models.items()}
    if len(set(named.values())) != 1 or not next(iter(named.values())):
        raise BackendError(f"--refit: the folded graphs of {', '.join(models)} have different weights; leave it out")
    return next(iter(named.values()))


def _named(model: ir.Model) -> tuple[str, ...]:
    try:
        return fields.texts(parse_json(model.metadata_props.get(TASK_WEIGHTS, "[]")), TASK_WEIGHTS)
    except ValueError as error:
        raise ArtifactError(f"a folded graph's metadata is damaged ({error}); export the bundle again") from error


def fill_up(models: Mapping[str, ir.Model]) -> None:
    """Gives the task weights of all graphs the same shapes: zeros beyond each task's labels."""
    for name in weight_names(models):
        values = {task: model.graph.initializers[name] for task, model in models.items()}
        widest = tuple(max(sizes) for sizes in zip(*(_array(value).shape for value in values.values()), strict=True))
        for value in values.values():
            array = _array(value)
            padding = [(0, wide - size) for wide, size in zip(widest, array.shape, strict=True)]
            value.const_value, value.shape = ir.tensor(np.pad(array, padding), name=name), ir.Shape(widest)
    outputs = [model.graph.outputs[0] for model in models.values()]
    shapes = [output.shape for output in outputs if output.shape is not None]
    widest_shape = max(shapes, key=lambda shape: int(str(shape[-1])))
    for output in outputs:
        output.shape = widest_shape


def filled_info(infos: Sequence[GraphInfo]) -> GraphInfo:
    """The interface of the common graph: its logits are as wide as those of the widest task."""
    widest = max((info.outputs[0] for info in infos), key=lambda output: output.shape[-1])
    return replace(infos[0], outputs=(widest,))


def task_weights(models: Mapping[str, ir.Model]) -> dict[str, dict[str, NDArray[Any]]]:
    """Each task's weights by name, at the type they have in the graphs now.

    Raises:
        BackendError: graphs differ in anything else.
    """
    names = weight_names(models)
    first = next(iter(models.values())).graph
    for task, model in models.items():
        graph = model.graph
        others = [name for name in first.initializers if name not in names]
        alike = graph.initializers.keys() == first.initializers.keys() and [node.op_type for node in graph] == [
            node.op_type for node in first
        ]
        if not alike or any(not _same(first.initializers[name], graph.initializers[name]) for name in others):
            raise BackendError(f"--refit: the folded graph of {task} differs in more than its weights; leave it out")
    return {task: {name: _array(model.graph.initializers[name]) for name in names} for task, model in models.items()}


def refit_bytes(task: str, precision: str, weights: Arrays) -> bytes:
    """The refit file of ``task``: its weights by name, at the types of ``precision``."""
    return tensor_bytes(weights, {"format": FORMAT, "version": VERSION, "task": task, "precision": precision})


def _array(value: ir.Value) -> NDArray[Any]:
    assert value.const_value is not None
    array: NDArray[Any] = value.const_value.numpy()
    return array


def _same(one: ir.Value, other: ir.Value) -> bool:
    left, right = _array(one), _array(other)
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
