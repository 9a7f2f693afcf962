"""The tiny model as graphs of every form, made node by node."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from propetl.bits import unpacking_table
from propetl.runtime.artifact import BACKBONE_FILE
from propetl.runtime.manifest import TensorSignature
from tests.runtime.tiny_model import LAYERS, MASKED

ONNX_TYPES = {"int64": TensorProto.INT64, "uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


class GraphMaker:
    """Collects nodes and initialisers of one graph."""

    def __init__(self, model):
        self.model = model
        self.nodes, self.initialisers, self.offset = [], [], 0
        for name, value in (("embedding", model.embedding), ("types", model.types)):
            self.external(name, value)

    def constant(self, name, value):
        self.initialisers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def external(self, name, value):
        tensor = numpy_helper.from_array(value, name)
        set_external_data(tensor, BACKBONE_FILE, self.offset, value.nbytes)
        tensor.ClearField("raw_data")
        self.initialisers.append(tensor)
        self.offset += value.nbytes

    def node(self, kind, inputs, **attributes):
        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def int_constant(self, *values):
        return self.constant(f"ints_{len(self.initialisers)}", np.array(values, dtype=np.int64))

    def unpacked(self, packed, lead, name):
        """Packed masks ``[*lead, bytes]`` times the prototype: ``[*lead, *shape]``; -1 is free."""
        shape = MASKED[name]
        size = int(np.prod(shape))
        table = self.constant(f"table_{len(self.nodes)}", unpacking_table())
        bits = self.node("Gather", [table, self.node("Cast", [packed], to=TensorProto.INT32)])
        flat = self.node("Reshape", [bits, self.int_constant(*lead, 8 * -(-size // 8))])
        cut = self.node("Slice", [flat, self.int_constant(0), self.int_constant(size), self.int_constant(len(lead))])
        masks = self.node("Reshape", [cut, self.int_constant(*lead, *shape)])
        return self.node("Mul", [masks, self.constant(f"prototype_{len(self.nodes)}", self.model.prototype[name])])

    def layer_weight(self, weights, layer, axis):
        """``[..., *shape]`` of one layer, last two axes transposed."""
        chosen = self.node("Gather", [weights, self.constant(f"layer_{len(self.nodes)}", np.int64(layer))], axis=axis)
        return self.node("Transpose", [chosen], perm=[1, 0] if axis == 0 else [0, 2, 1])

    def hidden(self, weights, axis):
        """Hidden states; ``weights`` None leaves the adapter out, a function gives the names of a layer's two."""
        words = self.node("Gather", ["embedding", "input_ids"])
        hidden = self.node("Add", [words, self.node("Gather", ["types", "token_type_ids"])])
        mask = self.node("Cast", ["attention_mask"], to=TensorProto.FLOAT)
        attended = self.node("Unsqueeze", [mask, self.int_constant(-1)])
        count = self.node("ReduceSum", [attended, self.int_constant(1)])
        biases = {name: self.constant(name, self.model.prototype[name]) for name in ("down.bias", "up.bias")}
        for layer in range(LAYERS):
            total = self.node("ReduceSum", [self.node("Mul", [hidden, attended]), self.int_constant(1)])
            hidden = self.node("Add", [hidden, self.node("Div", [total, count])])
            if weights is None:
                continue
            if callable(weights):
                down, up = weights(layer)
            else:
                down, up = (self.layer_weight(weights[name], layer, axis) for name in MASKED)
            inner = self.node("Add", [self.node("MatMul", [hidden, down]), biases["down.bias"]])
            outer = self.node("MatMul", [self.node("Relu", [inner]), up])
            hidden = self.node("Add", [self.node("Add", [hidden, outer]), biases["up.bias"]])
        return self.node("Gather", [hidden, self.constant("first", np.int64(0))], axis=1)

    def finish(self, inputs, width):
        self.nodes[-1].output[0] = "logits"
        return self.finish_with(inputs, [TensorSignature("logits", "float32", ("batch", width))])

    def finish_with(self, inputs, outputs):
        values, results = (
            [helper.make_tensor_value_info(i.name, ONNX_TYPES[i.dtype], list(i.shape)) for i in items]
            for items in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, "tiny", values, results, self.initialisers)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        return made.SerializeToString()


def folded_graph(model, task_pack, inputs):
    maker = GraphMaker(model)
    weights = {name: maker.constant(name, value) for name, value in model.effective(task_pack).items()}
    return _headed(maker, maker.hidden(weights, 0), task_pack).finish(inputs, task_pack.info.outputs)


def bare_graph(model, task_pack, inputs):
    maker = GraphMaker(model)
    return _headed(maker, maker.hidden(None, 0), task_pack).finish(inputs, task_pack.info.outputs)


def _headed(maker, first, task_pack):
    matrix, bias = (maker.constant(f"head.{name}", task_pack.head[name]) for name in ("weight", "bias"))
    maker.node("Gemm", [first, matrix, bias], transB=1)
    return maker


def switchable_graph(model, inputs):
    maker = GraphMaker(model)
    weights = {name: maker.unpacked(f"mask.{name}", (LAYERS,), name) for name in MASKED}
    maker.node("Gemm", [maker.hidden(weights, 0), "head.weight", "head.bias"], transB=1)
    return maker.finish(inputs, "labels")


def bank_graph(model, packs, inputs):
    maker = GraphMaker(model)
    widest = max(item.info.outputs for item in packs)
    rows = {
        name: maker.node(
            "Gather", [maker.constant(f"bank.{name}", np.stack([p.masks[name] for p in packs])), "task_id"]
        )
        for name in MASKED
    }
    weights = {name: maker.unpacked(packed, (-1, LAYERS), name) for name, packed in rows.items()}
    first = maker.node("Unsqueeze", [maker.hidden(weights, 1), maker.int_constant(1)])
    padded = [widest - item.info.outputs for item in packs]
    matrices = np.stack([np.pad(p.head["weight"], ((0, n), (0, 0))) for p, n in zip(packs, padded, strict=True)])
    biases = np.stack([np.pad(p.head["bias"], (0, n)) for p, n in zip(packs, padded, strict=True)])
    matrix = maker.node("Gather", [maker.constant("bank.head.weight", matrices), "task_id"])
    bias = maker.node("Gather", [maker.constant("bank.head.bias", biases), "task_id"])
    product = maker.node("MatMul", [first, maker.node("Transpose", [matrix], perm=[0, 2, 1])])
    maker.node("Add", [maker.node("Squeeze", [product, maker.int_constant(1)]), bias])
    return maker.finish(inputs, widest)


def apply_graph(model, inputs, outputs):
    """Packed masks and head with a leading axis of rows to what the text meets."""
    maker = GraphMaker(model)
    weights = {name: maker.unpacked(f"mask.{name}", (-1, LAYERS), name) for name in MASKED}
    made = [maker.layer_weight(weights[name], layer, 1) for layer in range(LAYERS) for name in MASKED]
    made.append(maker.node("Transpose", ["head.weight"], perm=[0, 2, 1]))
    made.append(maker.node("Identity", ["head.bias"]))
    for value, output in zip(made, outputs, strict=True):
        maker.nodes.append(helper.make_node("Identity", [value], [output.name]))
    return maker.finish_with(inputs, outputs)


def run_graph(model, inputs):
    maker = GraphMaker(model)
    first = maker.hidden(lambda layer: (f"applied.{2 * layer}", f"applied.{2 * layer + 1}"), 1)
    row = maker.node("Unsqueeze", [first, maker.int_constant(1)])
    product = maker.node("MatMul", [row, f"applied.{2 * LAYERS}"])
    maker.node("Add", [maker.node("Squeeze", [product, maker.int_constant(1)]), f"applied.{2 * LAYERS + 1}"])
    return maker.finish(inputs, "labels")
