"""What is computed in: the artifact's precision, the provider's, or that of a plan."""

from propetl.errors import BackendError
from propetl.runtime.engines import EngineOptions
from propetl.runtime.engines.provider import PlanProvider
from propetl.runtime.engines.providers import PROVIDERS
from propetl.runtime.manifest import Manifest


def computed_precision(manifest: Manifest, options: EngineOptions) -> str:
    """A key of :data:`propetl.runtime.report.TOLERANCES`.

    Raises:
        BackendError: a provider of plans, and the artifact has none.
    """
    provider = PROVIDERS[options.provider]
    if not isinstance(provider, PlanProvider):
        return "tf32" if manifest.precision == "fp32" and provider.rounds_to_tf32 else manifest.precision
    target = provider.target
    found = [engine.precision for engine in manifest.engines if engine.target == target]
    if not found:
        raise BackendError(
            f"provider {options.provider!r} runs engines of target {target}, and the artifact has none: "
            f"propetl build adds them with --target {target}, or choose another provider"
        )
    return options.precision or found[0]
