"""From a float32 graph of the artifact to one of a lower precision: TensorRT's types are those of the graph."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from propetl.export.passes import PassRecord, run_passes
from propetl.export.passes.drop_stale_shapes import DropStaleShapes
from propetl.export.passes.lower_floats import LOWERED_TYPES, LowerFloats
from propetl.export.passes.quantize_products import QuantizeProducts, has_constant_matrix
from propetl.export.passes.share_weights import ShareWeights
from propetl.export.ranges import Range
from propetl.export.weight_store import WeightStore
from propetl.runtime.manifest import BACKBONE_FILE

INT8 = "int8"
IN_FLOAT16 = ("fp16", INT8)
"""Precisions that compute in float16, whose range is small: how large values get is measured for them."""

AS_THEY_ARE = ("fp32", "tf32")
"""Precisions whose graphs are the artifact's own: they differ in a flag of the builder."""


def weights_file(precision: str) -> str:
    """Name of the file with the weights that all graphs of a lowered ``precision`` share."""
    return f"{Path(BACKBONE_FILE).stem}-{precision}.data"


def load_graph(source: Path, root: Path) -> ir.Model:
    """The graph in file ``source``, whose weights lie in folder ``root``, with the weights mapped."""
    model = ir.load(source)
    hold_weights(model, root)
    return model


def lower(
    model: ir.Model, precision: str, store: WeightStore, ranges: Mapping[str, Range], peaks: Mapping[str, float] | None
) -> tuple[PassRecord, ...]:
    """Brings ``model`` to ``precision`` and its weights to ``store``; returns what the passes did.

    Args:
        model: a float32 graph of the artifact, from :func:`load_graph`.
        precision: ``fp16``, ``bf16``, or ``int8``, which is float16 around integer products; ``fp32`` and
            ``tf32`` change nothing.
        store: receives the shared weights.
        ranges: for int8, the activation's range of each of :func:`backbone_products`; else empty.
        peaks: for fp16 and int8, how large values get, by name.
    """
    passes: list[ir.passes.PassBase] = [QuantizeProducts(ranges)] if precision == INT8 else []
    if precision not in AS_THEY_ARE:
        passes += [LowerFloats(LOWERED_TYPES["fp16" if precision == INT8 else precision], peaks), DropStaleShapes()]
    return run_passes(model, [*passes, ShareWeights(store)])


def backbone_products(source: Path) -> list[str]:
    """MatMuls by a constant matrix of the backbone: one that all graphs share.

    What a task owns stays as it is, and so does the prototype, which masks are applied to: it is small.
    """
    nodes = [node for node in ir.load(source).graph if has_constant_matrix(node)]
    weights = {str(node.name): node.inputs[1] for node in nodes}
    return [
        name
        for name, weight in weights.items()
        if weight is not None and isinstance(weight.const_value, ir.ExternalTensor)
    ]


def hold_weights(model: ir.Model, root: Path) -> None:
    """Maps external weights: onnx_ir refuses to read files with hard links, and folded folders hold such."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            value.const_value = _mapped(tensor, root)


def _mapped(tensor: ir.ExternalTensor, root: Path) -> ir.TensorProtocol:
    shape = tensor.shape.numpy()
    kind = tensor.dtype.numpy().newbyteorder("<")
    array = np.memmap(root / tensor.location, kind, "r", offset=tensor.offset or 0, shape=shape)
    return ir.Tensor(array, dtype=tensor.dtype, name=tensor.name)
