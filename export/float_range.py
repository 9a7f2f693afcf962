"""Which operators float16 is too narrow for: by the values they meet, as measured in float32.

A value fits where four times its largest size is a float16: rows that were not measured may go beyond those that were.
"""

from collections.abc import Iterable, Iterator, Mapping

import onnx_ir as ir

LARGEST = 65504.0
"""Of float16; what rounds to more is infinite."""

MARGIN = 4.0
"""How many times larger than any measured value an activation may get."""

_MOST_BYTE = 128

_SMALLEST = 2.0**-14  # float16's smallest normal number: a tensor of smaller ones loses its digits

# Operators allowed between a constant for "minus infinity" and the Softmax that turns it into zeros.
_MASKING = frozenset(
    {"Add", "Where", "Mul", "Cast", "Concat", "Expand", "Identity", "Max", "Min", "Pad", "Reshape", "Slice"}
) | {"Squeeze", "Transpose", "Unsqueeze"}


def float_constants(graph: ir.Graph) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """Float32 constants: initialisers, and what Constant nodes carry."""
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype == ir.DataType.FLOAT:
            yield value, value.const_value
    for node in graph:
        carried = node.attributes.get("value") if node.op_type == "Constant" else None
        if carried is not None and carried.as_tensor().dtype == ir.DataType.FLOAT:
            yield node.outputs[0], carried.as_tensor()


def masking_floors(graph: ir.Graph) -> dict[ir.Value, float]:
    """Values that hold numbers for "minus infinity", and the number at or below which they do.

    Such numbers may be clipped or overflow: a Softmax, which alone reads them, makes zeros of them.
    """
    floors = {
        value: lowest / 2
        for value, tensor in float_constants(graph)
        if (lowest := float(tensor.numpy().min(initial=0.0))) < -LARGEST and _only_masks(value)
    }
    for node in graph:  # in the order of computation
        found = [floors[value] for value in node.inputs if value in floors]
        if found and node.op_type in _MASKING:
            floors |= dict.fromkeys(node.outputs, max(found))
    return floors


def _only_masks(value: ir.Value) -> bool:
    """Whether whatever reads ``value`` leads to a Softmax."""
    return not value.is_graph_output() and all(
        node.op_type == "Softmax" or (node.op_type in _MASKING and all(map(_only_masks, node.outputs)))
        for node in value.consumers()
    )


def constant_sizes(graph: ir.Graph) -> dict[str, float]:
    """The largest absolute value of each float constant, by name."""
    masking = masking_floors(graph)
    return {str(value.name): _size(tensor, masking.get(value)) for value, tensor in float_constants(graph)}


def largest(sizes: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """By name, the largest of all sizes of this name."""
    found: dict[str, float] = {}
    for some in sizes:
        found |= {name: max(found.get(name, 0.0), size) for name, size in some.items()}
    return found


def too_wide(graph: ir.Graph, peaks: Mapping[str, float]) -> dict[ir.Node, str]:
    """The operators that have to stay float32, and why, as part of a line for people.

    Args:
        graph: in float32.
        peaks: largest size of each activation, by name; constants are looked at here, and are at least as large as
            their name says.

    Returns:
        Those that read or give a value that does not fit, in the order of the graph.
    """
    reasons = _reasons(graph, peaks)
    found: dict[ir.Node, str] = {}
    for node in graph:
        for value in (*node.inputs, *node.outputs):
            if value in reasons and node.op_type != "Constant":
                found.setdefault(node, reasons[value])
    return found


def _reasons(graph: ir.Graph, peaks: Mapping[str, float]) -> dict[ir.Value | None, str]:
    """Why values do not fit: of those that do not."""
    masking = masking_floors(graph)
    found: dict[ir.Value | None, str] = {}
    for value, tensor in float_constants(graph):
        size = max(_size(tensor, masking.get(value)), peaks.get(str(value.name), 0.0))
        found |= _reason(value, size, LARGEST)
    for value in _computed(graph):
        found |= _reason(value, peaks.get(str(value.name), 0.0), LARGEST / MARGIN)
    for node in graph:
        if node.op_type == "DequantizeLinear":
            found |= _reason_of_integers(node, found)
    return found


def _reason_of_integers(node: ir.Node, found: Mapping[ir.Value | None, str]) -> dict[ir.Value | None, str]:
    """Values that pass through integers keep their size; constants state it by their scale."""
    integers, scale = node.inputs[0], node.inputs[1]
    source = integers.producer() if integers is not None else None
    if source is not None:
        return {node.outputs[0]: found[source.inputs[0]]} if source.inputs[0] in found else {}
    if scale is None or scale.const_value is None:
        return {}
    return _reason(node.outputs[0], _MOST_BYTE * _size(scale.const_value, None), LARGEST)


def _reason(value: ir.Value, size: float, limit: float) -> dict[ir.Value | None, str]:
    if not size <= limit:
        return {value: f"{value.name} reaches {size:.3g}"}
    return {value: f"{value.name} is {size:.3g} at most"} if 0 < size < _SMALLEST else {}


def _size(tensor: ir.TensorProtocol, floor: float | None) -> float:
    """Largest absolute value, leaving out what stands for minus infinity."""
    array = tensor.numpy()
    kept = array if floor is None else array[array > floor]
    return max(float(kept.max(initial=0.0)), -float(kept.min(initial=0.0)))


def _computed(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        if node.op_type != "Constant":
            yield from node.outputs
