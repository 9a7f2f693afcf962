"""Which provider runs which operator: ONNX Runtime moves what a GPU provider refuses to the CPU without a word."""

from collections import Counter
from typing import Any

from propetl.errors import BackendError
from propetl.runtime.engines.ort_options import CPU_PROVIDER
from propetl.runtime.engines.provider import OrtProvider

RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"
"""The session's configuration entry without which ONNX Runtime does not tell."""

# ONNX Runtime itself puts arithmetic of shapes and positions on the CPU beside CUDA, a few integers of each call:
# it is faster there. ("session.disable_cpu_ep_fallback" would refuse these too, and with them every graph that has
# free sizes.) No operator that a transformer spends its time in is among them.
_MOVING = frozenset({"Gather", "Concat", "Unsqueeze", "Squeeze", "Slice", "Cast", "Identity", "Reshape", "Expand"})
_COUNTING = frozenset({"Shape", "Size", "Range", "ConstantOfShape", "Add", "Sub", "Mul", "Div", "Mod", "ReduceProd"})
_COMPARING = frozenset({"Max", "Min", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Where"})
SHAPE_OPERATORS = _MOVING | _COUNTING | _COMPARING

Placement = tuple[tuple[str, str], ...]
"""Provider and operator type of every node."""


def placement_of(session: Any) -> Placement:
    """Where the nodes of an ``onnxruntime.InferenceSession`` run, which records it."""
    parts = session.get_provider_graph_assignment_info()
    return tuple((part.ep_name, node.op_type) for part in parts for node in part.get_nodes())


def check_placement(asked: str, provider: OrtProvider, placement: Placement, path: str) -> None:
    """Refuses a session in which the CPU computes more than shapes, or in which the provider computes nothing.

    Args:
        asked: the provider's name here.
        provider: the one that was asked for.
        placement: of every node.
        path: of the graph.

    Raises:
        BackendError: naming operators and how many of them.
    """
    allowed = provider.left_to_cpu
    if allowed is None:
        return
    stray = Counter(kind for name, kind in placement if name == CPU_PROVIDER and kind not in allowed)
    if stray:
        raise BackendError(
            f"provider {asked!r} does not run all of {path}: {_shown(stray)} would fall back to the CPU; "
            f"export with a precision and target that {provider.name} runs, or choose another provider"
        )
    if not any(name == provider.name for name, _ in placement):
        others = Counter(name for name, _ in placement)
        raise BackendError(
            f"provider {asked!r} runs nothing of {path}: {_shown(others)} would run it instead; choose that provider"
        )


def _shown(counted: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in sorted(counted.items()))
