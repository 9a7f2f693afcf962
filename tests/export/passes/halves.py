"""One graph to cut in two: a weight of the task is scaled and used twice, a bias goes straight to the text."""

import numpy as np
import onnx_ir as ir
import onnxruntime

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
graph (float[batch, 3] x, float[rows, 3] w, float[rows, 3] b) => (float[batch, 3] logits) <float[1] two = {2}> {
    scaled = Mul(w, two)
    steep = Relu(scaled)
    a = Mul(x, steep)
    c = Add(a, b)
    logits = Mul(c, scaled)
}
"""


def whole():
    """The graph with the shapes that a trace knows."""
    model = ir.from_onnx_text(TEXT)
    for node in model.graph:
        for value in node.outputs:
            value.type = ir.TensorType(ir.DataType.FLOAT)
            value.shape = ir.Shape(["rows" if value.name in ("scaled", "steep") else "batch", 3])
    return model


def run(model, feeds):
    """Outputs by name."""
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def feeds(rows):
    random = np.random.default_rng(rows)
    shapes = {"x": (4, 3), "w": (rows, 3), "b": (rows, 3)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
