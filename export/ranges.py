"""How large the activations of chosen products get on real rows: measured with ONNX Runtime, in float32."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from propetl.errors import ConfigurationError
from propetl.runtime.engines.ort_tuned import WEIGHTS_FOLDER

_ERRORS_ONLY = 3

# A few outliers would leave little resolution for all others (Wu et al. 2020, arXiv 2004.09602, section 5).
_PERCENTILE = 99.99


@dataclass(frozen=True)
class Range:
    """Between which values an activation lies, outliers left out.

    Attributes:
        low: 0 or less, as zeros have to stay zeros.
        high: 0 or more.
    """

    low: float = 0.0
    high: float = 0.0

    @property
    def largest(self) -> float:
        """Largest absolute value."""
        return max(-self.low, self.high)

    @property
    def is_usable(self) -> bool:
        """Whether integers can be laid over it."""
        return bool(np.isfinite([self.low, self.high]).all()) and self.low <= 0 <= self.high and self.largest > 0

    def with_(self, other: "Range") -> "Range":
        """The range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


def widest(ranges: Iterable[Mapping[str, Range]]) -> dict[str, Range]:
    """By name, the range that holds all of this name."""
    found: dict[str, Range] = {}
    for some in ranges:
        found |= {name: found.get(name, Range()).with_(one) for name, one in some.items()}
    return found


def activation_ranges(
    source: Path, root: Path, products: Sequence[str], batches: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[str, Range]:
    """The ranges that the activation of each product has.

    Args:
        source: the ONNX file, in float32.
        root: folder of its weights.
        products: names of the nodes that multiply.
        batches: inputs of the graph.

    Returns:
        By product: from the 0.005th to the 99.995th percentile in a batch, the widest of all batches.

    Raises:
        ConfigurationError: no batch, or values that are not finite.
    """
    model = ir.load(source)
    activations = _activations(model, products)
    session, names = _session(model, root, list(dict.fromkeys(activations.values()))), list(activations.values())
    found = dict.fromkeys(names, Range())
    for batch in batches:
        for name, values in zip(found, session.run(list(found), dict(batch)), strict=True):
            found[name] = found[name].with_(_range_of(values))
    if wrong := [name for name, one in found.items() if not one.is_usable]:
        raise ConfigurationError(f"{source.name}: {wrong[0]} is {found[wrong[0]]} on the calibration rows: give others")
    return {product: found[name] for product, name in activations.items()}


def _range_of(values: NDArray[np.float32]) -> Range:
    outside = (100 - _PERCENTILE) / 2
    low, high = np.percentile(values, [outside, 100 - outside])
    return Range(min(0.0, float(low)), max(0.0, float(high))) if np.isfinite([low, high]).all() else Range(-np.inf)


def _activations(model: ir.Model, products: Sequence[str]) -> dict[str, str]:
    wanted = set(products)
    inputs = {str(node.name): node.inputs[0] for node in model.graph if node.name in wanted}
    return {product: str(value.name) for product, value in inputs.items() if value is not None}


def _session(model: ir.Model, root: Path, names: Sequence[str]) -> Any:
    """A session that gives the values ``names`` instead of logits."""
    wanted = set(names)
    values = {str(value.name): value for node in model.graph for value in node.outputs if value.name in wanted}
    model.graph.outputs.clear()
    for name in names:
        values[name].dtype = ir.DataType.FLOAT
        model.graph.outputs.append(values[name])
    return session_of(model, root)


def session_of(model: ir.Model, root: Path) -> Any:
    """A session on the CPU over a float32 graph, whose external weights lie in the folder ``root``."""
    import onnxruntime  # an extra of its own; who calls has checked

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry(WEIGHTS_FOLDER, str(root.resolve()))
    content = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
