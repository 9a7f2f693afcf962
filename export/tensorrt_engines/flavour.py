"""TensorRT 10, TensorRT 11 and TensorRT for RTX: one API with a few differences, all of them here.

what                             tensorrt 10     tensorrt 11     tensorrt_rtx 1.x
strongly typed networks          by a flag       always          always
builds for                       the GPU here    the GPU here    SM 75 to 121, also with no GPU
timing cache                     yes             yes             does nothing
hardware-, version-compatible    yes             yes             no
stripped, refittable plans       yes             yes             only with a GPU driver
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from propetl.errors import BackendError, ConfigurationError, MissingExtraError
from propetl.export.tensorrt_engines.options import TensorRTOptions

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


@dataclass(frozen=True)
class Flavour:
    """One of the two libraries.

    Attributes:
        target: name on the command line and in manifests.
        module: Python module.
        extra: that brings it.
        for_any_gpu: builds for GPUs that are not in this machine.
        timing_cache: whether kernel timings can be kept between builds.
        compatible_modes: whether plans can be made for later GPUs and later versions.
    """

    target: str
    module: str
    extra: str
    for_any_gpu: bool
    timing_cache: bool
    compatible_modes: bool


FLAVOURS = {
    "tensorrt": Flavour("tensorrt", "tensorrt", "tensorrt", False, True, True),
    "tensorrt-rtx": Flavour("tensorrt-rtx", "tensorrt_rtx", "rtx", True, False, False),
}

_OLDEST_TENSORRT = 10


def load_library(flavour: Flavour) -> Any:
    """The Python module of ``flavour``.

    Raises:
        MissingExtraError: it is not installed.
        BackendError: it is older than TensorRT 10.
    """
    try:
        library = import_module(flavour.module)
    except ImportError as error:
        raise MissingExtraError(f"--target {flavour.target}", flavour.module, flavour.extra) from error
    if not flavour.for_any_gpu and int(library.__version__.split(".")[0]) < _OLDEST_TENSORRT:
        raise BackendError(f"--target tensorrt needs TensorRT 10 or 11; found {library.__version__}: upgrade it")
    return library


def check_supported(flavour: Flavour, library: Any, options: TensorRTOptions) -> tuple[int, ...]:
    """Refuses what ``flavour`` cannot build here; returns the compute capabilities to build for.

    Raises:
        ConfigurationError: an option or a GPU that the library does not have.
        BackendError: a plan for the GPU of a machine that has none.
    """
    chosen = (
        ("--timing-cache", options.timing_cache is not None, flavour.timing_cache),
        ("--hardware-compatible", options.hardware_compatible, flavour.compatible_modes),
        ("--version-compatible", options.version_compatible, flavour.compatible_modes),
    )
    for flag, asked, supported in chosen:
        if asked and not supported:
            raise ConfigurationError(
                f"{flag} is for --target tensorrt; TensorRT for RTX has no such mode: leave it out"
            )
    here = gpu_here()
    flag = "--refit" if options.refit else "--strip-weights"
    if (options.refit or options.strip_weights) and here is None:
        raise BackendError(
            f"{flag} needs a GPU driver where the engine is built, and there is none here: "
            "run the export on a machine with a GPU, or leave it out"
        )
    if flavour.for_any_gpu:
        return _capabilities_of_rtx(library, options.compute_capabilities, here)
    return _capability_here(options.compute_capabilities, here)


def _capabilities_of_rtx(library: Any, asked: Sequence[int], here: int | None) -> tuple[int, ...]:
    known = [int(name[2:]) for name in library.ComputeCapability.__members__ if name.startswith("SM")]
    wanted = tuple(asked) or ((here,) if here is not None else ())
    listed = ", ".join(map(str, known))
    if not wanted:
        raise ConfigurationError(f"there is no GPU here to build for: say which by --sm, among {listed}")
    if unknown := [capability for capability in wanted if capability not in known]:
        raise ConfigurationError(
            f"TensorRT for RTX {library.__version__} does not support SM {unknown[0]} (it knows {listed}); "
            "choose another --sm, or run the graphs there with ONNX Runtime's CUDA provider or TensorRT"
        )
    return wanted


def _capability_here(asked: Sequence[int], here: int | None) -> tuple[int, ...]:
    if here is None:
        raise BackendError(
            "--target tensorrt builds for the GPU of the machine it runs on, and there is none here: "
            "export on the device, or choose --target tensorrt-rtx, which builds for --sm 86,89,120 anywhere"
        )
    if asked and tuple(asked) != (here,):
        raise ConfigurationError(
            f"--target tensorrt builds for the GPU here (SM {here}) only; got --sm {','.join(map(str, asked))}: "
            "leave it out and export on each device"
        )
    return (here,)


def gpu_here() -> int | None:
    """Compute capability of the first GPU, as 86 for SM 8.6; None without a GPU or its driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, parts = ctypes.c_int(), [ctypes.c_int(), ctypes.c_int()]
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    for part, attribute in zip(parts, (_CAPABILITY_MAJOR, _CAPABILITY_MINOR), strict=True):
        if driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, device):
            return None
    return parts[0].value * 10 + parts[1].value


def new_network(library: Any, builder: Any) -> Any:
    """An empty strongly typed network: its types are those of the graph, so precision is lowered in the graph."""
    return builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))


def set_compute_capabilities(flavour: Flavour, library: Any, config: Any, capabilities: Sequence[int]) -> None:
    """Tells the builder of an RTX engine which GPUs to build for; TensorRT takes the one it finds."""
    if not flavour.for_any_gpu:
        return
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(library.ComputeCapability.__members__[f"SM{capability}"], index)
