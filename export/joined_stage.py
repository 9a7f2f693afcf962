"""One graph that applies a task's masks for all graphs by which a backbone generates.

Each of these graphs brings a half that depends on the task alone (``KeepTask``), and most of what the halves compute is
the same: decoder and decoder with past want the same weights. Here what is the same is computed once and kept once.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from propetl.export.passes.keep_task import APPLIED


@dataclass(frozen=True)
class JoinedStage:
    """The one graph.

    Attributes:
        model: gives ``applied.0``, ``applied.1``, …, each another value.
        names: by half, what each of its outputs is called here, in their order.
    """

    model: ir.Model
    names: Mapping[str, tuple[str, ...]]


def joined_stage(halves: Mapping[str, ir.Model]) -> JoinedStage:
    """Joins ``halves``, in which inputs of one name are the same, and leaves them as they are."""
    joined = _Joined()
    places = {name: [joined.place(value) for value in joined.add(half.graph)] for name, half in halves.items()}
    names = {name: tuple(f"{APPLIED}{place}" for place in mine) for name, mine in places.items()}
    first = next(iter(halves.values()))
    return JoinedStage(joined.model(first), names)


@dataclass
class _Joined:
    """Values and nodes so far, each by what it is computed from."""

    inputs: dict[str, ir.Value] = field(default_factory=dict)
    constants: dict[Hashable, ir.Value] = field(default_factory=dict)
    nodes: dict[Hashable, ir.Node] = field(default_factory=dict)
    outputs: dict[ir.Value, int] = field(default_factory=dict)

    def add(self, graph: ir.Graph) -> list[ir.Value]:
        """Takes up ``graph``; what its outputs are here."""
        here: dict[ir.Value | None, ir.Value | None] = {None: None}
        here |= {value: self._input(value) for value in graph.inputs}
        here |= {value: self._constant(value) for value in graph.initializers.values()}
        for node in graph:  # in the order of computation
            here |= dict(zip(node.outputs, self._node(node, [here[value] for value in node.inputs]), strict=True))
        found = [here[value] for value in graph.outputs]
        return [value for value in found if value is not None]

    def place(self, value: ir.Value) -> int:
        """The number of the output that ``value`` is, or is now."""
        return self.outputs.setdefault(value, len(self.outputs))

    def model(self, like: ir.Model) -> ir.Model:
        """All of it as a graph with the operator sets of ``like``."""
        for value, place in self.outputs.items():
            value.name = f"{APPLIED}{place}"
        opsets = dict(like.graph.opset_imports)
        constants, nodes = list(self.constants.values()), list(self.nodes.values())
        graph = ir.Graph(
            list(self.inputs.values()), list(self.outputs), nodes=nodes, initializers=constants, opset_imports=opsets
        )
        return ir.Model(graph, ir_version=like.ir_version)

    def _input(self, value: ir.Value) -> ir.Value:
        name = str(value.name)
        return self.inputs.setdefault(name, ir.Value(name=name, shape=value.shape, type=value.type))

    def _constant(self, value: ir.Value) -> ir.Value:
        tensor = value.const_value
        assert tensor is not None
        name = f"constant.{len(self.constants)}"
        made = ir.Value(name=name, shape=value.shape, type=value.type, const_value=tensor)
        return self.constants.setdefault(content_key(tensor), made)

    def _node(self, node: ir.Node, inputs: list[ir.Value | None]) -> list[ir.Value]:
        attributes = tuple(sorted(map(_setting, node.attributes.values())))
        key = (node.domain, node.op_type, node.overload, attributes, tuple(map(id, inputs)), len(node.outputs))
        if key not in self.nodes:
            self.nodes[key] = self._copied(node, inputs)
        return list(self.nodes[key].outputs)

    def _copied(self, node: ir.Node, inputs: list[ir.Value | None]) -> ir.Node:
        outputs = [
            ir.Value(name=f"value.{len(self.nodes)}.{place}", shape=value.shape, type=value.type)
            for place, value in enumerate(node.outputs)
        ]
        settings = list(node.attributes.values())
        return ir.Node(node.domain, node.op_type, inputs, settings, overload=node.overload, outputs=outputs)


def content_key(tensor: ir.TensorProtocol) -> Hashable:
    """Equal for equal tensors: the store of weights has each content in one place only."""
    if isinstance(tensor, ir.ExternalTensor):
        return (tensor.location, tensor.offset, tensor.dtype, tuple(tensor.shape))
    return (tensor.tobytes(), tensor.dtype, tuple(tensor.shape))


def _setting(attribute: ir.Attr) -> tuple[str, str]:
    value = attribute.value
    return attribute.name, repr(content_key(value) if isinstance(value, ir.TensorProtocol) else value)
