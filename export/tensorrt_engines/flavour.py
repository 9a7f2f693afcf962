"""What TensorRT and TensorRT for RTX can build here, and the calls of the builder in which they differ."""

import ctypes
from collections.abc import Sequence
from typing import Any

from propetl.errors import BackendError, ConfigurationError
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.runtime.engines.tensorrt_flavour import Flavour

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


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
    if options.refit and not hasattr(library.BuilderFlag, "REFIT_INDIVIDUAL"):
        raise BackendError(
            f"--refit needs TensorRT 10.2 or later; found {library.__version__}: upgrade it, or leave it out"
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
