"""Which operators an artifact's graphs use: ONNX's own, or also those of one engine."""

from propetl.errors import ArtifactError

STANDARD, ONNXRUNTIME = "standard", "onnxruntime"

ONNXRUNTIME_DOMAIN = "com.microsoft"
"""Of ONNX Runtime's own operators, in a graph."""


OPERATOR_SETS = {STANDARD: "ONNX's own operators", ONNXRUNTIME: "operators of ONNX Runtime's own"}
"""By the manifest's ``operators``, in words. A provider's record says which sets it runs."""


def check_operators(name: str) -> None:
    """Refuses a set of operators that this version does not know.

    Raises:
        ArtifactError: naming those it knows.
    """
    if name not in OPERATOR_SETS:
        raise ArtifactError(f"operators {name!r} are unknown (known: {', '.join(OPERATOR_SETS)}); upgrade propetl")
