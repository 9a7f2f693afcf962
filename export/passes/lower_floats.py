"""Turns a float32 graph into one of half the bits, whose inputs and outputs stay as they are."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from propetl.export.float_range import too_wide

LOWERED_TYPES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

# Sums of squares over the hidden size: they leave float16's range and bfloat16's digits first.
_SUMS = frozenset({"ReduceMean", "ReduceSum", "ReduceL2"})
_SQUARES, _ROOTS = frozenset({"Pow", "Mul"}), frozenset({"Add", "Sqrt", "Reciprocal"})

# Of angles in the thousands: bfloat16 counts to 256.
_WAVES = frozenset({"Cos", "Sin"})

# Operators of these graphs that ONNX Runtime's CUDA provider has for float16 and not for bfloat16.
_WITHOUT_BFLOAT16 = frozenset({"Pad", "Reciprocal"})

# Constants, and what goes through integers, are as large as what they are made from.
_KNOWN_OTHERWISE = frozenset({"Constant", "DequantizeLinear"})

_LARGEST = {ir.DataType.FLOAT16: 65504.0, ir.DataType.BFLOAT16: 3.3895313892515355e38}


class LowerFloats(ir.passes.InPlacePass):
    """Computes in float16 or bfloat16 what was float32; constants keep their names, values are clipped to the type.

    Float32 stay: inputs and outputs of the graph; normalisations, whether they are one operator or squares, their mean
    and its root; whatever a conversion to integers depends on, such as buckets of relative positions, where
    rounding would pick another entry of a table, or the angles of rotary positions; and, of float16, what meets values
    that are too large or too small for it (:mod:`propetl.export.float_range`).

    Requires: standard operators, types of all values that :class:`onnx_ir`'s inference can find; a peak of every value
        that is computed, where any are given.
    Ensures: inputs and outputs have the types they had, and every MatMul multiplies the lower type, but for those that
        make angles.
    """

    def __init__(self, dtype: ir.DataType, peaks: Mapping[str, float] | None = None) -> None:
        """``dtype`` among the values of :data:`LOWERED_TYPES`; ``peaks``: how large values get, by name."""
        super().__init__()
        self.dtype = dtype
        self.peaks = peaks

    def requires(self, model: ir.Model) -> None:
        """Checks that there is nothing whose type is an attribute this pass does not know."""
        for node in model.graph:
            if "dtype" in node.attributes or node.domain not in ("", "ai.onnx"):
                raise ir.passes.PreconditionError(f"{node.op_type} ({node.name}) chooses its own type")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Types first, then constants, casts and the borders to what stays float32."""
        ShapeInferencePass()(model)
        graph = model.graph
        exact = self._exact_nodes(graph)
        floats = {value for value in _values(graph) if value.dtype == ir.DataType.FLOAT}
        self._check_measured(floats)
        inputs = {value for value in graph.inputs if value in floats}
        outputs = [value for value in graph.outputs if value in floats]
        lowered = floats - inputs - {value for node in exact for value in node.outputs}
        lowered -= {value for value in floats if value.is_initializer() and _read_by(value, exact)}
        for value in lowered:
            self._lower(value)
        for node in graph:
            if node not in exact:
                self._lower_attributes(node)
        self._join(graph, exact, lowered, floats)
        for output in outputs:
            self._restore_output(graph, output)
        return ir.passes.PassResult(model, bool(lowered))

    def ensures(self, model: ir.Model) -> None:
        """Looks at every MatMul, and at the graph's outputs."""
        exact = self._exact_nodes(model.graph)
        for node in model.graph:
            types = {value.dtype for value in node.inputs if value is not None}
            if node.op_type in ("MatMul", "Gemm") and node not in exact and types != {self.dtype}:
                raise ir.passes.PostconditionError(f"{node.op_type} ({node.name}) multiplies {types}")
        for output in model.graph.outputs:
            if output.dtype == self.dtype:
                raise ir.passes.PostconditionError(f"output {output.name} is {output.dtype}")

    def _exact_nodes(self, graph: ir.Graph) -> set[ir.Node]:
        wide = too_wide(graph, self.peaks or {}) if self.dtype == ir.DataType.FLOAT16 else {}
        return _exact_nodes(graph, self.dtype) | wide.keys()

    def _check_measured(self, floats: set[ir.Value]) -> None:
        """A value whose size nobody knows may be any."""
        peaks, computed = self.peaks, {value: value.producer() for value in floats}
        for value, node in computed.items() if peaks is not None else ():
            used = bool(value.uses()) or value.is_graph_output()
            if node is None or not used or node.op_type in _KNOWN_OTHERWISE or str(value.name) in (peaks or {}):
                continue
            raise ir.passes.PreconditionError(f"{value.name} was not measured")

    def _lower(self, value: ir.Value) -> None:
        value.type = ir.TensorType(self.dtype)  # a new one: clones of a graph share theirs
        if value.const_value is not None:
            value.const_value = self._lowered_tensor(value.const_value, str(value.name))

    def _lowered_tensor(self, tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
        largest = _LARGEST[self.dtype]
        array = np.clip(tensor.numpy(), -largest, largest)
        return ir.Tensor(array.astype(self.dtype.numpy()), dtype=self.dtype, name=name)

    def _lower_attributes(self, node: ir.Node) -> None:
        """Casts to float32, and constants that a node carries with it."""
        to, value = node.attributes.get("to"), node.attributes.get("value")
        if node.op_type == "Cast" and to is not None and to.as_int() == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", self.dtype)
        if value is not None and value.as_tensor().dtype == ir.DataType.FLOAT:
            node.attributes["value"] = ir.AttrTensor("value", self._lowered_tensor(value.as_tensor(), ""))

    def _join(self, graph: ir.Graph, exact: set[ir.Node], lowered: set[ir.Value], floats: set[ir.Value]) -> None:
        """Puts a Cast where a float value of one type meets a node of the other."""
        casts: dict[ir.Value, ir.Value] = {}
        for node in list(graph):
            wanted = ir.DataType.FLOAT if node in exact else self.dtype
            for index, value in enumerate(node.inputs):
                if value in floats and value.dtype != wanted and node.op_type != "Cast":
                    if value not in casts:
                        casts[value] = _cast(graph, value, wanted, f"{value.name}.{wanted.name.lower()}")
                    node.replace_input_with(index, casts[value])

    def _restore_output(self, graph: ir.Graph, output: ir.Value) -> None:
        if output.dtype != self.dtype:
            return
        name = str(output.name)
        output.name = f"{name}.{self.dtype.name.lower()}"
        cast = _cast(graph, output, ir.DataType.FLOAT, name)
        graph.outputs[list(graph.outputs).index(output)] = cast


def _cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType, name: str) -> ir.Value:
    """``value`` as ``dtype``, computed right after it is there."""
    node = ir.node("Cast", [value], attributes={"to": dtype}, name=f"cast_{name}")
    node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = name, dtype, value.shape
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, node)
    else:
        graph.insert_before(graph.node(0), node)
    return node.outputs[0]


def _exact_nodes(graph: ir.Graph, dtype: ir.DataType) -> set[ir.Node]:
    """Normalisations, nodes on whose float results an integer or a wave depends, and those that ``dtype`` lacks."""
    waves = {node for node in graph if node.op_type in _WAVES}
    kept = {"LayerNormalization"} | (_WITHOUT_BFLOAT16 if dtype == ir.DataType.BFLOAT16 else set())
    found = waves | {node for node in graph if node.op_type in kept} | _normalising(graph)
    indices = [node for node in graph if node in waves or (node.op_type == "Cast" and _makes_integers(node))]
    waiting = [value.producer() for node in indices for value in node.inputs if value is not None]
    while waiting:
        node = waiting.pop()
        if node is None or node in found or all(value.dtype != ir.DataType.FLOAT for value in node.outputs):
            continue
        found.add(node)
        waiting += [value.producer() for value in node.inputs if value is not None]
    return found


def _normalising(graph: ir.Graph) -> set[ir.Node]:
    """Sums, the squares that they alone read, and what is made of sums up to the root."""
    found = {node for node in graph if node.op_type in _SUMS}
    squares = {node for node in graph if node.op_type in _SQUARES and _read_by(node.outputs[0], found)}
    for node in graph:  # in the order of computation
        computed = [value for value in node.inputs if value is not None and not value.is_initializer()]
        if node.op_type in _ROOTS and computed and all(value.producer() in found for value in computed):
            found.add(node)
    return found | squares


def _makes_integers(cast: ir.Node) -> bool:
    source = cast.inputs[0]
    return (
        source is not None
        and source.dtype == ir.DataType.FLOAT
        and ir.DataType(cast.attributes["to"].as_int()).is_integer()
    )


def _read_by(value: ir.Value, nodes: set[ir.Node]) -> bool:
    """Whether all that reads ``value`` is among ``nodes``."""
    readers = value.consumers()
    return bool(readers) and all(node in nodes for node in readers)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs
