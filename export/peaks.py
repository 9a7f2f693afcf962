"""How large every float of a graph gets on the rows that run through it: in float32, with ONNX Runtime."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import ShapeInferencePass

from propetl.export.float_range import masking_floors
from propetl.export.ranges import session_of
from propetl.export.tensorrt_engines.lowering import load_graph

Arrays = Mapping[str, NDArray[Any]]


class MeasuredGraph:
    """A float32 graph that also finds out how large its values get.

    Attributes:
        peaks: largest absolute value so far of each float input and of everything computed, by name; what stands for
            minus infinity in masks is left out.
    """

    def __init__(self, path: Path, weights: Path) -> None:
        """Loads the graph in ``path``, whose external weights lie in the folder ``weights``."""
        floors = masking_floors(load_graph(path, weights).graph)
        model = ir.load(path)  # with references to its weights, which ONNX Runtime maps
        self._outputs = [str(value.name) for value in model.graph.outputs]
        ShapeInferencePass()(model)
        self._watched = _watch(model.graph, {str(value.name): floor for value, floor in floors.items()})
        self._session = session_of(model, weights)
        self.peaks: dict[str, float] = dict.fromkeys(self._watched, 0.0)

    def __call__(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """The graph's own outputs, by name."""
        found = self._session.run(None, dict(feeds))
        for name, array in feeds.items():
            if array.dtype == np.float32:
                self._note(name, float(np.abs(array).max(initial=0.0)))
        for name, peak in zip(self._watched, found[len(self._outputs) :], strict=True):
            self._note(name, float(peak))
        return dict(zip(self._outputs, found, strict=False))

    def _note(self, name: str, peak: float) -> None:
        self.peaks[name] = max(self.peaks.get(name, 0.0), peak if math.isfinite(peak) else math.inf)


def _watch(graph: ir.Graph, floors: Mapping[str, float]) -> list[str]:
    """Makes an output of the peak of every float that a node gives; the values' names, in the outputs' order."""
    watched: list[str] = []
    for value in list(_floats(graph)):
        nodes = list(_peak_of(value, floors.get(str(value.name)), f"peak.{len(watched)}"))
        graph.extend(nodes)
        peak = nodes[-1].outputs[0]
        peak.dtype, peak.shape = ir.DataType.FLOAT, ir.Shape([])
        graph.outputs.append(peak)
        watched.append(str(value.name))
    return watched


def _floats(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        for value in node.outputs if node.op_type != "Constant" else ():
            if value.dtype == ir.DataType.FLOAT and (value.uses() or value.is_graph_output()):
                yield value


def _peak_of(value: ir.Value, floor: float | None, name: str) -> Iterator[ir.Node]:
    """The largest absolute value; of an empty tensor 0, since a zero is put to it."""
    zero = _constant(np.zeros(1, np.float32))
    flat_shape = _constant(np.array([-1], np.int64))
    yield from (zero, flat_shape)
    if floor is not None:
        limit = _constant(np.array([floor], np.float32))
        below = ir.node("LessOrEqual", [value, limit.outputs[0]])
        kept = ir.node("Where", [below.outputs[0], zero.outputs[0], value])
        yield from (limit, below, kept)
        value = kept.outputs[0]
    size = ir.node("Abs", [value])
    flat = ir.node("Reshape", [size.outputs[0], flat_shape.outputs[0]])
    padded = ir.node("Concat", [flat.outputs[0], zero.outputs[0]], attributes={"axis": 0})
    peak = ir.node("ReduceMax", [padded.outputs[0]], attributes={"keepdims": 0})
    peak.outputs[0].name = name
    yield from (size, flat, padded, peak)


def _constant(array: NDArray[Any]) -> ir.Node:
    return ir.node("Constant", [], attributes={"value": ir.tensor(array)})
