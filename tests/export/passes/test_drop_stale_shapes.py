import onnx_ir as ir

from propetl.export.passes.drop_stale_shapes import DropStaleShapes
from tests.export.passes.graphs import graph


def test_only_the_interface_keeps_shapes() -> None:
    model = graph("h = Relu (x) y = Neg (h)", "float[batch, 3] x", "float[batch, 3] y")
    hidden = model.graph[0].outputs[0]
    hidden.shape, hidden.type = ir.Shape([7, 3]), ir.TensorType(ir.DataType.FLOAT)
    assert DropStaleShapes()(model).modified
    assert hidden.shape is None
    assert hidden.type is None
    assert str(model.graph.inputs[0].shape) == "[batch,3]"
    assert str(model.graph.outputs[0].shape) == "[batch,3]"
    assert not DropStaleShapes()(model).modified
