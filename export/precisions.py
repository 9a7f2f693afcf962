"""How weights are quantised: which passes make which precision, and where they stand among the others."""

import onnx_ir as ir

from propetl.export.passes.quantize_dynamically import QuantizeDynamically
from propetl.export.passes.quantize_prototype import QuantizePrototype
from propetl.export.passes.quantize_tables import QuantizeTables
from propetl.export.passes.quantize_to_nibbles import QuantizeToNibbles

_PRODUCTS: dict[str, type[ir.passes.InPlacePass]] = {"int8": QuantizeDynamically, "int4": QuantizeToNibbles}


def trace_quantisation(precision: str, masks_stay: bool) -> list[ir.passes.PassBase]:
    """On a trace, before weights are shared: the backbone's, once for all graphs.

    Args:
        precision: of the artifact.
        masks_stay: masks are applied by the graphs themselves, to a prototype that they hold. Where masks are
            folded instead, into the prototype's floats, the product is quantised afterwards.
    """
    if precision not in _PRODUCTS:
        return []
    prototype = [QuantizePrototype()] if masks_stay else []
    return [_PRODUCTS[precision](), QuantizeTables(), *prototype]


def folded_quantisation(precision: str) -> list[ir.passes.PassBase]:
    """On a folded graph: what masks left of the prototype."""
    return [_PRODUCTS[precision]()] if precision in _PRODUCTS else []
