"""What is computed in: the artifact's precision, the provider's, or that of a plan."""

from propetl.errors import BackendError
from propetl.runtime.engines import PLAN_PROVIDERS, EngineOptions
from propetl.runtime.engines.tensorrt_flavour import PLAN_FLAVOURS
from propetl.runtime.manifest import Manifest

_ROUND_TO_TF32 = ("tensorrt", "nv-tensorrt-rtx")
"""These round products of fp32 to ten bits, and have no switch that turns it off."""


def computed_precision(manifest: Manifest, options: EngineOptions) -> str:
    """A key of :data:`propetl.runtime.report.TOLERANCES`.

    Raises:
        BackendError: a provider of plans, and the artifact has none.
    """
    if options.provider not in PLAN_PROVIDERS:
        rounded = manifest.precision == "fp32" and options.provider in _ROUND_TO_TF32
        return "tf32" if rounded else manifest.precision
    target = PLAN_FLAVOURS[options.provider].target
    found = [engine.precision for engine in manifest.engines if engine.target == target]
    if not found:
        raise BackendError(
            f"provider {options.provider!r} runs engines of target {target}, and the artifact has none: "
            f"propetl build adds them with --target {target}, or choose another provider"
        )
    return options.precision or found[0]
