"""A traced graph without its weights, as bytes, and the graph again with the weights of a program."""

from collections.abc import Mapping

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnx_ir.tensor_adapters import TorchTensor
from torch import Tensor

# Constants that the tracer made of numbers in the code. A larger one is a tensor that somebody holds without saying so,
# and may be of one program's weights.
_LARGEST_CONSTANT = 1


def skeleton_of(model: ir.Model, weights: Mapping[str, Tensor]) -> bytes | None:
    """``model`` with each of its ``weights`` as an input behind the others.

    None where it holds a further tensor: such a graph is no other program's.
    """
    graph = model.graph
    held = [value for value in graph.initializers.values() if value.name in weights]
    others = [value for value in graph.initializers.values() if value.name not in weights]
    if not all(map(_is_number, others)):
        return None
    bare = model.clone()
    for value in held:
        weight = bare.graph.initializers.pop(str(value.name))
        weight.const_value = None
        bare.graph.inputs.append(weight)
    ClearMetadataAndDocStringPass()(bare)  # the tracer's notes: nine tenths of the bytes
    content: bytes = ir.to_proto(bare).SerializeToString(deterministic=True)
    return content


def with_weights(skeleton: bytes, weights: Mapping[str, Tensor]) -> ir.Model:
    """The graph of :func:`skeleton_of` with ``weights`` in their places.

    Raises:
        Exception: of the readers of ONNX, or ValueError, where the bytes are no such graph of these weights.
    """
    model: ir.Model = ir.from_proto(onnx.ModelProto.FromString(skeleton))
    held = [value for value in model.graph.inputs if value.name in weights]
    if not held:
        raise ValueError("no weight of the program is in this graph")
    if not all(map(_is_number, model.graph.initializers.values())):
        raise ValueError("tensors that are no weights of the program are in this graph")
    for value in held:
        weight = TorchTensor(weights[str(value.name)].detach(), name=value.name)
        if (value.dtype, value.shape) != (weight.dtype, weight.shape):
            raise ValueError(f"{value.name} is another weight in this graph")
        model.graph.inputs.remove(value)
        value.const_value = weight
        model.graph.register_initializer(value)
    return model


def _is_number(value: ir.Value) -> bool:
    """Whether an initializer is one number, held in the graph itself and in no other file."""
    tensor = value.const_value
    return tensor is not None and not isinstance(tensor, ir.ExternalTensor) and tensor.size <= _LARGEST_CONSTANT
