"""What engines to build and how; loads no engine, so that the command line can show its defaults."""

import re
from dataclasses import dataclass
from pathlib import Path

from propetl.errors import ConfigurationError
from propetl.runtime.engine_records import ENGINE_PRECISIONS, ENGINE_TARGETS, Sizes

DEFAULT_OPTIMIZATION_LEVEL = 3
OPTIMIZATION_LEVELS = range(6)

_LARGEST_BATCH = 32
_USUAL_SEQUENCE = 128

_SHAPE = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True)
class ShapeRange:
    """Smallest, best and largest batch and sequence that one optimisation profile covers."""

    batch: Sizes
    sequence: Sizes

    def __str__(self) -> str:
        return "/".join(f"{batch}x{length}" for batch, length in zip(self.batch, self.sequence, strict=True))


@dataclass(frozen=True)
class TensorRTOptions:
    """What engines to build and how.

    Attributes:
        targets: among ``tensorrt`` and ``tensorrt-rtx``.
        precisions: among ``fp32``, ``tf32``, ``fp16``, ``bf16``, ``int8``; one engine for each.
        shapes: one optimisation profile for each; empty for :func:`default_shapes`.
        compute_capabilities: GPUs to build for, as 86 for SM 8.6; empty for the GPU of this machine.
        calibration: where the rows are that int8 is calibrated on; None for the artifact's golden rows.
        workspace_mib: limit on scratch memory; None for all there is.
        optimization_level: how long the builder may look for faster kernels.
        timing_cache: file that keeps kernel timings between builds.
        hardware_compatible: run on later GPU architectures, too.
        version_compatible: load in later versions of the library, too.
        strip_weights: leave weights out of the plans; the device puts them in, from ONNX graphs.
        refit: one folded plan for all tasks, and a file of weights for each.
        max_new_tokens: longest answer that engines which generate have room for; None for the tasks' longest.
    """

    targets: tuple[str, ...]
    precisions: tuple[str, ...] = ("fp32",)
    shapes: tuple[ShapeRange, ...] = ()
    compute_capabilities: tuple[int, ...] = ()
    calibration: str | None = None
    workspace_mib: int | None = None
    optimization_level: int = DEFAULT_OPTIMIZATION_LEVEL
    timing_cache: Path | None = None
    hardware_compatible: bool = False
    version_compatible: bool = False
    strip_weights: bool = False
    refit: bool = False
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        _known("--target", self.targets, ENGINE_TARGETS)
        _known("--precision", self.precisions, ENGINE_PRECISIONS)
        if self.optimization_level not in OPTIMIZATION_LEVELS:
            raise ConfigurationError(f"--optimization-level is 0 to 5; got {self.optimization_level}")
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise ConfigurationError(f"--workspace is in MiB, at least 1; got {self.workspace_mib}")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ConfigurationError(f"--max-new-tokens takes a number of at least 1; got {self.max_new_tokens}")
        if self.refit and self.strip_weights:
            raise ConfigurationError("--refit and --strip-weights do not go together: choose one")
        if self.refit and "bf16" in self.precisions:
            raise ConfigurationError("--refit is for fp32, tf32, fp16 and int8: files of weights hold no bfloat16")
        if self.calibration is not None and "int8" not in self.precisions:
            raise ConfigurationError("--calibration is for --precision int8: add it, or leave the calibration out")


def _known(flag: str, values: tuple[str, ...], known: tuple[str, ...]) -> None:
    if not values or not set(values) <= set(known):
        given = ", ".join(values) or "nothing"
        raise ConfigurationError(f"{flag} is among {', '.join(known)}; got {given}")


def default_shapes(max_length: int) -> tuple[ShapeRange, ...]:
    """One range for everything up to 32 rows of ``max_length`` tokens, best at one row."""
    return (ShapeRange((1, 1, _LARGEST_BATCH), (1, min(max_length, _USUAL_SEQUENCE), max_length)),)


def parse_shapes(text: str) -> ShapeRange:
    """A range from ``MIN/OPT/MAX``, each ``BATCHxSEQUENCE``, such as ``1x1/8x64/32x128``; one shape for all three.

    Raises:
        ConfigurationError: it reads otherwise, or sizes do not rise.
    """
    found = [_SHAPE.fullmatch(part) for part in text.split("/")]
    shapes = [(int(match[1]), int(match[2])) for match in found if match]
    if len(shapes) != len(found) or len(shapes) not in (1, 3):
        raise ConfigurationError(
            f"--profile is MIN/OPT/MAX, each BATCHxSEQUENCE, such as 1x1/8x64/32x128; got {text!r}"
        )
    smallest, best, largest = shapes * (3 // len(shapes))
    for low, middle, high in zip(smallest, best, largest, strict=True):
        if not 1 <= low <= middle <= high:
            raise ConfigurationError(f"--profile {text}: sizes must be at least 1 and rise from MIN over OPT to MAX")
    return ShapeRange((smallest[0], best[0], largest[0]), (smallest[1], best[1], largest[1]))


def parse_compute_capabilities(text: str) -> tuple[int, ...]:
    """Numbers from ``86,89,120`` (or ``8.6, 8.9``), each once.

    Raises:
        ConfigurationError: something else is among them.
    """
    parts = [part.strip().lower().removeprefix("sm").replace(".", "") for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigurationError(f"--sm is a list of compute capabilities, such as 86,89,120; got {text!r}")
    return tuple(dict.fromkeys(map(int, parts)))
