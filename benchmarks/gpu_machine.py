"""What a machine has for running on a GPU, and why each provider can or cannot run there."""

import ctypes
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from propetl.export.tensorrt_engines.flavour import gpu_here
from propetl.runtime.engines.providers import PROVIDERS

PACKAGES = (
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-ep-nv-tensorrt-rtx",
    "tensorrt",
    "tensorrt_rtx",
    "cuda-bindings",
)
NO_GPU = "no GPU"
WHAT_EXPORTS = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript")
WHAT_TRAINS = ("accelerate", "pydantic", "yaml", "sklearn", "scipy")
"""Modules that come with the extras ``export`` and ``train``."""

_QUERY = ("name", "driver_version", "memory.total", "compute_cap", "power.limit", "clocks.max.sm")


@dataclass(frozen=True)
class Machine:
    """What was found.

    Attributes:
        compute_capability: of the first GPU, as 86; None without one.
        gpu: what nvidia-smi says of it; empty without.
        packages: version of those that are installed.
        ort_providers: that the installed ONNX Runtime serves.
        rtx_capabilities: that the installed TensorRT for RTX supports.
        nvinfer: whether the library of TensorRT 10 is on a search path; one that pip installed is not.
    """

    compute_capability: int | None
    gpu: dict[str, str]
    packages: dict[str, str]
    ort_providers: tuple[str, ...]
    rtx_capabilities: tuple[int, ...]
    nvinfer: bool


def machine_here() -> Machine:
    """Looks around; loads nothing that needs a GPU."""
    capability = gpu_here()
    return Machine(
        compute_capability=capability,
        gpu=_gpu() if capability is not None else {},
        packages=_packages(),
        ort_providers=_ort_providers(),
        rtx_capabilities=_rtx_capabilities(),
        nvinfer=_loads("libnvinfer.so.10"),
    )


def reasons_against(machine: Machine) -> dict[str, str]:
    """Why each provider of a GPU cannot run here; empty where it can."""
    if machine.compute_capability is None:
        return dict.fromkeys((name for name, one in PROVIDERS.items() if one.memory == "cuda"), NO_GPU)
    return {name: check(machine) for name, check in _CHECKS.items()}


def missing_modules(*names: str) -> str:
    """Which of ``names`` are not installed, as a reason; empty if none."""
    missing = [name for name in names if find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def _cuda(machine: Machine) -> str:
    return "" if "CUDAExecutionProvider" in machine.ort_providers else "onnxruntime-gpu is not installed"


def _tensorrt(machine: Machine) -> str:
    if "TensorrtExecutionProvider" not in machine.ort_providers:
        return _cuda(machine) or "this onnxruntime-gpu was built without TensorRT"
    installed = machine.packages.get("tensorrt", "").startswith("10.")
    return "" if machine.nvinfer or installed else "libnvinfer.so.10 is not there"


def _rtx_supported(machine: Machine) -> str:
    capability = machine.compute_capability
    if not machine.rtx_capabilities:
        return ""
    return "" if capability in machine.rtx_capabilities else f"TensorRT for RTX does not support SM {capability}"


def _nv_rtx(machine: Machine) -> str:
    return _missing(machine, "onnxruntime-ep-nv-tensorrt-rtx") or _rtx_supported(machine)


def _tensorrt_plan(machine: Machine) -> str:
    return _missing(machine, "tensorrt") or _missing(machine, "cuda-bindings")


def _rtx_plan(machine: Machine) -> str:
    return _missing(machine, "tensorrt_rtx") or _missing(machine, "cuda-bindings") or _rtx_supported(machine)


def _missing(machine: Machine, package: str) -> str:
    return "" if package in machine.packages else f"{package} is not installed"


_CHECKS: Mapping[str, Callable[[Machine], str]] = {
    "cuda": _cuda,
    "tensorrt": _tensorrt,
    "nv-tensorrt-rtx": _nv_rtx,
    "tensorrt-plan": _tensorrt_plan,
    "tensorrt-rtx-plan": _rtx_plan,
}


def _gpu() -> dict[str, str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader", "--id=0"]
    try:
        line = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(_QUERY, (part.strip() for part in line.split(",")), strict=False))


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _ort_providers() -> tuple[str, ...]:
    try:
        import onnxruntime
    except ImportError:
        return ()
    return tuple(onnxruntime.get_available_providers())


def _rtx_capabilities() -> tuple[int, ...]:
    try:
        import tensorrt_rtx
    except ImportError:
        return ()
    return tuple(int(name[2:]) for name in tensorrt_rtx.ComputeCapability.__members__ if name.startswith("SM"))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
