"""How large the activations of chosen products get on real rows: measured with ONNX Runtime, in float32."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from propetl.errors import ConfigurationError

_ERRORS_ONLY = 3
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"

# A few outliers would leave little resolution for all others (Wu et al. 2020, arXiv 2004.09602, section 5).
_PERCENTILE = 99.99


def activation_ranges(
    source: Path, root: Path, products: Sequence[str], batches: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[str, float]:
    """Largest absolute value that the activation of each product reaches, outliers left out.

    Args:
        source: the ONNX file, in float32.
        root: folder of its weights.
        products: names of MatMul nodes.
        batches: inputs of the graph.

    Returns:
        By product: the 99.99th percentile of absolute values in a batch, the largest of all batches.

    Raises:
        ConfigurationError: no batch, or values that are not finite.
    """
    model = ir.load(source)
    activations = _activations(model, products)
    session, names = _session(model, root, list(dict.fromkeys(activations.values()))), list(activations.values())
    found = dict.fromkeys(names, 0.0)
    for batch in batches:
        for name, values in zip(found, session.run(list(found), dict(batch)), strict=True):
            found[name] = max(found[name], float(np.percentile(np.abs(values), _PERCENTILE)))
    if wrong := [name for name, largest in found.items() if not 0 < largest < np.inf]:
        raise ConfigurationError(f"{source.name}: {wrong[0]} is {found[wrong[0]]} on the calibration rows: give others")
    return {product: found[name] for product, name in activations.items()}


def _activations(model: ir.Model, products: Sequence[str]) -> dict[str, str]:
    wanted = set(products)
    inputs = {str(node.name): node.inputs[0] for node in model.graph if node.name in wanted}
    return {product: str(value.name) for product, value in inputs.items() if value is not None}


def _session(model: ir.Model, root: Path, names: Sequence[str]) -> Any:
    """A session that gives the values ``names`` instead of logits."""
    import onnxruntime  # an extra of its own; who calls has checked

    wanted = set(names)
    values = {str(value.name): value for node in model.graph for value in node.outputs if value.name in wanted}
    model.graph.outputs.clear()
    for name in names:
        values[name].dtype = ir.DataType.FLOAT
        model.graph.outputs.append(values[name])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry(_WEIGHTS_FOLDER, str(root.resolve()))
    content = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
