"""What passes ask of a graph that they match patterns in."""

import onnx_ir as ir


def made_by(value: ir.Value | None, operator: str) -> ir.Node | None:
    """The node that makes ``value``, if it is an ``operator``; None for an input, a constant, and no value."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == operator else None


def require_shapes(model: ir.Model) -> None:
    """Checks that values between inputs and outputs have shapes, without which no attention would match.

    Raises:
        PreconditionError: none has one.
    """
    outputs = [value for node in model.graph for value in node.outputs]
    if outputs and all(value.shape is None for value in outputs):
        raise ir.passes.PreconditionError("no value has a shape; fuse before shapes are dropped")
