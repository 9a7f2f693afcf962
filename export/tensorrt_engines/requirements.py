"""Which graphs engines can be built from: asked before a bundle is exported, and of an artifact that is there."""

from collections.abc import Collection
from dataclasses import dataclass

from propetl.errors import ConfigurationError
from propetl.export.options import FP32, OLDEST_FOR_INT8
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.runtime.manifest import Manifest
from propetl.runtime.operators import STANDARD
from propetl.runtime.signatures import FOLDED


@dataclass(frozen=True)
class Graphs:
    """What decides whether engines can be built from graphs.

    Attributes:
        operators: that they use.
        precision: of their weights.
        opset: of the standard operators.
        forms: that there are.
        generate: whether the backbone generates.
    """

    operators: str
    precision: str
    opset: int
    forms: Collection[str]
    generate: bool

    @classmethod
    def of(cls, manifest: Manifest) -> "Graphs":
        """Those of an artifact."""
        generate = manifest.generation is not None
        return cls(manifest.operators, manifest.precision, manifest.opset, tuple(manifest.forms), generate)


def check_graphs(options: TensorRTOptions, graphs: Graphs) -> None:
    """Refuses what ``options`` ask for and ``graphs`` do not have.

    Raises:
        ConfigurationError: saying how to export graphs that do.
    """
    if graphs.operators != STANDARD:
        raise ConfigurationError(
            f"--target builds engines from standard operators: export without --operators {graphs.operators}"
        )
    if graphs.precision != FP32:
        raise ConfigurationError(
            "--target builds engines from fp32 graphs, and takes their precision by --precision: "
            f"export without --quantize {graphs.precision}"
        )
    if "int8" in options.precisions and graphs.opset < OLDEST_FOR_INT8:
        raise ConfigurationError(f"--precision int8 needs --opset {OLDEST_FOR_INT8} or later; got {graphs.opset}")
    if options.refit and FOLDED not in graphs.forms:
        raise ConfigurationError("--refit makes one engine of the folded graphs: add --form folded, or leave it out")
    if graphs.generate and (options.refit or "int8" in options.precisions):
        flag = "--refit" if options.refit else "--precision int8"
        raise ConfigurationError(f"{flag} is for tasks with heads, this backbone generates; leave it out")
    if options.max_new_tokens is not None and not graphs.generate:
        raise ConfigurationError("--max-new-tokens is for backbones that generate; leave it out")
