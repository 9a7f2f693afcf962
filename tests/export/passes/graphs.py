"""Small graphs, written as text."""

import numpy as np
import onnx_ir as ir


def graph(body: str, inputs: str, outputs: str) -> ir.Model:
    """A model of opset 20 with one graph."""
    text = f'<ir_version: 10, opset_import: ["" : 20]> g ({inputs}) => ({outputs}) {{ {body} }}'
    return ir.from_onnx_text(text)


def constant(model: ir.Model, name: str, array: np.ndarray) -> None:
    """Makes input ``name`` of ``model`` a constant."""
    value = next(value for value in model.graph.inputs if value.name == name)
    model.graph.inputs.remove(value)
    value.const_value = ir.tensor(array, name=name)
    model.graph.register_initializer(value)


def operators(model: ir.Model) -> list[str]:
    """Operator types in order."""
    return [node.op_type for node in model.graph]
