"""Which operators an artifact's graphs use, ONNX's own or also those of one engine, and who can run them."""

from dataclasses import dataclass

from propetl.errors import ArtifactError, ConfigurationError

STANDARD, ONNXRUNTIME = "standard", "onnxruntime"

ONNXRUNTIME_DOMAIN = "com.microsoft"
"""Of ONNX Runtime's own operators, in a graph."""


@dataclass(frozen=True)
class OperatorSet:
    """Who can run the graphs.

    Attributes:
        what: the operators, in words.
        providers: that run them; None for any.
    """

    what: str
    providers: frozenset[str] | None


OPERATOR_SETS = {
    STANDARD: OperatorSet("ONNX's own operators", None),
    # ONNX Runtime's TensorRT providers know none of its own operators, and would leave them to the CPU.
    ONNXRUNTIME: OperatorSet("operators of ONNX Runtime's own", frozenset({"cpu", "cuda"})),
}
"""By the manifest's ``operators``."""

# ONNX Runtime has casts to and from bfloat16 on a CPU, and hardly an operator in between.
_WITHOUT = {"bf16": "cpu"}


def check_operators(name: str) -> None:
    """Refuses a set of operators that this version does not know.

    Raises:
        ArtifactError: naming those it knows.
    """
    if name not in OPERATOR_SETS:
        raise ArtifactError(f"operators {name!r} are unknown (known: {', '.join(OPERATOR_SETS)}); upgrade propetl")


def check_provider(operators: str, precision: str, provider: str, source: str) -> None:
    """Refuses a provider that cannot run graphs with these operators at this precision.

    Args:
        operators: of the artifact.
        precision: of the artifact.
        provider: that was asked for.
        source: the artifact, for the message.

    Raises:
        ConfigurationError: naming the providers that can, and the way out.
    """
    providers = OPERATOR_SETS[operators].providers
    if providers is not None and provider not in providers:
        raise ConfigurationError(
            f"{source} uses {OPERATOR_SETS[operators].what}, which provider {provider!r} cannot run "
            f"({' and '.join(sorted(providers))} can); export the bundle with --operators {STANDARD}"
        )
    if _WITHOUT.get(precision) == provider:
        raise ConfigurationError(
            f"{source} computes in {precision}, which provider {provider!r} cannot; run it on a GPU, --provider cuda"
        )
