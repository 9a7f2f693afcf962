"""The providers, one record each, and what they refuse to run."""

from propetl.errors import BackendError, ConfigurationError
from propetl.runtime.engines.ort_options import CPU_PROVIDER, cpu_options, cuda_options, rtx_options, tensorrt_options
from propetl.runtime.engines.placement import SHAPE_OPERATORS
from propetl.runtime.engines.provider import OrtProvider, PlanProvider, Provider
from propetl.runtime.operators import ONNXRUNTIME, OPERATOR_SETS, STANDARD

_BOTH = frozenset({STANDARD, ONNXRUNTIME})

PROVIDERS: dict[str, Provider] = {
    "cpu": OrtProvider(
        name=CPU_PROVIDER,
        extra="cpu",
        options=cpu_options,
        memory="cpu",
        operators=_BOTH,
        without=frozenset({"bf16"}),  # ONNX Runtime has casts to and from it on a CPU, and hardly an operator between
        tuned=True,
        left_to_cpu=None,
        stages=True,
        # ONNX Runtime 1.31.1: its operator for a sum and a normalization takes 200 us for 128 rows of 384 numbers on
        # one core, the two that it replaces 33 us.
        slower_optimizers=frozenset({"SkipLayerNormFusion"}),
    ),
    "cuda": OrtProvider(
        name="CUDAExecutionProvider",
        extra="gpu",
        options=cuda_options,
        operators=_BOTH,
        left_to_cpu=SHAPE_OPERATORS,
        stages=True,
        preloads_cuda=True,
    ),
    # ONNX Runtime's TensorRT providers know none of its own operators, and would leave them to the CPU. Microsoft's
    # advice: CUDA takes what TensorRT's parser refuses, such as the cast of packed masks.
    "tensorrt": OrtProvider(
        name="TensorrtExecutionProvider",
        extra="gpu",
        options=tensorrt_options,
        rounds_to_tf32=True,
        left_to_cpu=SHAPE_OPERATORS,
        builds=True,
        helpers=("cuda",),
        preloads_cuda=True,
        libraries="tensorrt_libs",
    ),
    "nv-tensorrt-rtx": OrtProvider(
        name="NvTensorRTRTXExecutionProvider",
        extra="rtx-ep",
        options=rtx_options,
        rounds_to_tf32=True,
        left_to_cpu=SHAPE_OPERATORS,
        builds=True,
        plugin="onnxruntime_ep_nv_tensorrt_rtx",
        stream_options={"has_user_compute_stream": "1"},
    ),
    "tensorrt-plan": PlanProvider(target="tensorrt"),
    "tensorrt-rtx-plan": PlanProvider(target="tensorrt-rtx"),
}
"""By the name that ``--provider`` takes."""


def ort_provider(name: str) -> OrtProvider:
    """The record of a provider that is ONNX Runtime's."""
    found = PROVIDERS[name]
    assert isinstance(found, OrtProvider)
    return found


def plan_providers() -> tuple[str, ...]:
    """Providers that run engines which were built ahead, and not graphs."""
    return tuple(name for name, provider in PROVIDERS.items() if isinstance(provider, PlanProvider))


def provider_called(name: object) -> Provider:
    """The record of the provider ``name``.

    Raises:
        BackendError: naming those there are.
    """
    if not isinstance(name, str) or name not in PROVIDERS:
        raise BackendError(f"provider {name!r} is not known; choose one of {', '.join(PROVIDERS)}")
    return PROVIDERS[name]


def check_runs(provider: str, operators: str, precision: str, source: str) -> None:
    """Refuses a provider that cannot run graphs with these operators at this precision.

    Args:
        provider: that was asked for.
        operators: of the artifact.
        precision: of the artifact.
        source: the artifact, for the message.

    Raises:
        ConfigurationError: naming the providers that can, and the way out.
    """
    asked = provider_called(provider)
    if operators not in asked.operators:
        able = " and ".join(sorted(name for name, one in PROVIDERS.items() if operators in one.operators))
        raise ConfigurationError(
            f"{source} uses {OPERATOR_SETS[operators]}, which provider {provider!r} cannot run "
            f"({able} can); export the bundle with --operators {STANDARD}"
        )
    if precision in asked.without:
        raise ConfigurationError(
            f"{source} computes in {precision}, which provider {provider!r} cannot; run it on a GPU, --provider cuda"
        )
