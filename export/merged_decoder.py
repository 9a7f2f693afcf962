"""Both decoders of an encoder-decoder in one graph, as optimum calls and takes it.

An ``If`` on the input ``use_cache_branch`` chooses the first step or a further one; weights stand once, outside of both
branches. It is for other tools: sessions run the two graphs, which have fewer inputs.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from propetl.export.compiler import Compiled
from propetl.export.joined_stage import content_key
from propetl.runtime.generation.parts import DECODER, DECODER_WITH_PAST
from propetl.runtime.signatures import FOLDED

MERGED, MERGED_FILE = "decoder_merged", "decoder_model_merged.onnx"
USE_CACHE = "use_cache_branch"

_SMALLEST_SHARED = 1024  # bytes: below, ONNX Runtime wants constants (axes, shapes) in the branch that reads them


def merged_graphs(graphs: Iterable[Compiled]) -> Iterator[Compiled]:
    """For every folded task among ``graphs``, its two decoders in one."""
    by_task: dict[str, dict[str, ir.Model]] = {}
    for one in graphs:
        if one.form == FOLDED and one.part is not None:
            by_task.setdefault(one.part, {})[one.step] = one.model
    for task, models in by_task.items():
        model = merged_decoder(models[DECODER], models[DECODER_WITH_PAST])
        yield Compiled(FOLDED, task, model, step=MERGED, file=MERGED_FILE)


def merged_decoder(decoder: ir.Model, with_past: ir.Model) -> ir.Model:
    """One graph with the inputs of both and the outputs of ``decoder``; the two are left as they are.

    With a cache, keys and values of the encoder come in and do not change. What goes out under their names is then
    empty, ``[0, heads, 1, head size]``, as optimum writes it; whoever runs the graph goes on with those it has.
    """
    inputs = _inputs(decoder.graph, with_past.graph)
    chosen = ir.Value(name=USE_CACHE, shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.BOOL))
    outer = _Outer({str(value.name): value for value in inputs})
    outputs = list(decoder.graph.outputs)
    branches = {
        "then_branch": outer.branch(with_past.graph, outputs, "with_past"),
        "else_branch": outer.branch(decoder.graph, outputs, "first"),
    }
    node = ir.node("If", [chosen], attributes=dict(branches), num_outputs=len(outputs))
    for value, stated in zip(node.outputs, decoder.graph.outputs, strict=True):
        value.name, value.type = stated.name, stated.type
        value.shape = _shape_of_either(stated)
    graph = ir.Graph(
        [*inputs, chosen],
        list(node.outputs),
        nodes=[node],
        initializers=list(outer.constants.values()),
        opset_imports=dict(decoder.graph.opset_imports),
        name="merged",
    )
    return ir.Model(
        graph,
        ir_version=decoder.ir_version,
        producer_name=decoder.producer_name,
        producer_version=decoder.producer_version,
        metadata_props=dict(decoder.metadata_props),
    )


def _inputs(*graphs: ir.Graph) -> list[ir.Value]:
    """Inputs of all, each name once; ``input_ids`` is as long as in the first.

    The size of a head is free: optimum feeds the first step a stand-in that has width divided by heads, which T5's may
    differ from.
    """
    found: dict[str, ir.Value] = {}
    for graph in graphs:
        for value in graph.inputs:
            name, shape = str(value.name), [*(value.shape or ())]
            if name.startswith("past_key_values."):
                shape[-1] = "head_size"
            found.setdefault(name, ir.Value(name=name, shape=ir.Shape(shape), type=value.type))
    return list(found.values())


def _shape_of_either(value: ir.Value) -> ir.Shape:
    """Sizes that both branches agree on; of a cache that is not given out again, no free one."""
    assert value.shape is not None
    return ir.Shape([size if isinstance(size, int) else None for size in value.shape])


@dataclass
class _Outer:
    """What branches read from outside: the inputs, and large constants, which stand there once."""

    inputs: dict[str, ir.Value]
    constants: dict[Hashable, ir.Value] = field(default_factory=dict)

    def branch(self, graph: ir.Graph, outputs: Sequence[ir.Value], name: str) -> ir.Graph:
        """``graph`` as a branch that gives what ``outputs`` are called; those it does not have are empty."""
        here: dict[ir.Value | None, ir.Value | None] = {None: None}
        here |= {value: self.inputs[str(value.name)] for value in graph.inputs}
        own: list[ir.Value] = []
        for value in graph.initializers.values():
            here[value] = self._constant(value, name, own)
        nodes: list[ir.Node] = []
        for node in graph:
            nodes.append(_copied(node, here, name))
            here |= dict(zip(node.outputs, nodes[-1].outputs, strict=True))
        mine = {value.name: here[value] for value in graph.outputs}
        given: list[ir.Value] = []
        for stated in outputs:
            found = mine.get(stated.name)
            if found is None:
                nodes.append(_empty(stated, f"{name}.{stated.name}"))
                found = nodes[-1].outputs[0]
            given.append(found)
        return ir.Graph([], given, nodes=nodes, initializers=own, name=name)

    def _constant(self, value: ir.Value, branch: str, own: list[ir.Value]) -> ir.Value:
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes < _SMALLEST_SHARED:
            own.append(ir.Value(name=f"{branch}.{value.name}", shape=value.shape, type=value.type, const_value=tensor))
            return own[-1]
        name = f"weight.{len(self.constants)}"
        made = ir.Value(name=name, shape=value.shape, type=value.type, const_value=tensor)
        return self.constants.setdefault(content_key(tensor), made)


def _copied(node: ir.Node, here: dict[ir.Value | None, ir.Value | None], branch: str) -> ir.Node:
    outputs = [ir.Value(name=f"{branch}.{value.name}", shape=value.shape, type=value.type) for value in node.outputs]
    inputs = [here[value] for value in node.inputs]
    settings = list(node.attributes.values())
    return ir.Node(node.domain, node.op_type, inputs, settings, overload=node.overload, outputs=outputs)


def _empty(cache: ir.Value, name: str) -> ir.Node:
    """A constant of the shape of ``cache`` with no rows, and free sizes of 1."""
    sizes = [size if isinstance(size, int) else 1 for size in cache.shape or ()]
    array = np.empty((0, *sizes[1:]), dtype=np.float32)
    node = ir.node("Constant", [], attributes={"value": ir.tensor(array)})
    made = node.outputs[0]
    made.name, made.type, made.shape = name, cache.type, ir.Shape(array.shape)
    return node
