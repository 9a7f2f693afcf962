"""TensorRT 10, TensorRT 11 and TensorRT for RTX: one API with a few differences, all of them in this table.

what                             tensorrt 10     tensorrt 11     tensorrt_rtx 1.x
strongly typed networks          by a flag       always          always
builds for                       the GPU here    the GPU here    SM 75 to 121, also with no GPU
timing cache                     yes             yes             does nothing
hardware-, version-compatible    yes             yes             no
stripped plans                   yes             yes             only with a GPU driver
plans with some weights to refit from 10.2       yes             only with a GPU driver
CUDA graphs                      captured here, for shapes       captured by the library, for every shape
                                 that recur
kernels                          in the plan                     compiled when a shape first runs; kept in a file
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from propetl.errors import BackendError, MissingExtraError

_OLDEST_TENSORRT = 10


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
        captures_itself: whether it has CUDA graphs and a file of compiled kernels of its own.
    """

    target: str
    module: str
    extra: str
    for_any_gpu: bool
    timing_cache: bool
    compatible_modes: bool
    captures_itself: bool


FLAVOURS = {
    "tensorrt": Flavour("tensorrt", "tensorrt", "tensorrt", False, True, True, False),
    "tensorrt-rtx": Flavour("tensorrt-rtx", "tensorrt_rtx", "rtx", True, False, False, True),
}
"""By target."""


def load_library(flavour: Flavour, purpose: str) -> Any:
    """The Python module of ``flavour``.

    Args:
        flavour: which.
        purpose: what it is wanted for, for messages.

    Raises:
        MissingExtraError: it is not installed.
        BackendError: it is older than TensorRT 10, or its shared libraries are not there.
    """
    try:
        library = import_module(flavour.module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(purpose, flavour.module, flavour.extra) from error
    except ImportError as error:  # its Python part is a package of its own, and comes without the rest, too
        from propetl.installation import install_line

        raise BackendError(
            f"{purpose} needs {flavour.module!r}, which is installed but does not start: {error}; "
            f"{install_line(flavour.extra)} again where its libraries can be fetched (pypi.nvidia.com), "
            "or put them on LD_LIBRARY_PATH"
        ) from error
    if not flavour.for_any_gpu and int(library.__version__.split(".")[0]) < _OLDEST_TENSORRT:
        raise BackendError(f"{purpose} needs TensorRT 10 or 11; found {library.__version__}: upgrade it")
    return library


@cache
def error_log(library: Any) -> Any:
    """The one logger of ``library`` in this process, for building and running: it ignores all after the first it got.

    ``errors`` holds what went wrong since it was last cleared.
    """

    class ErrorLog(library.ILogger):  # type: ignore[misc]  # a class of a module known at run time
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return ErrorLog()


def refused(library: Any, what: str) -> BackendError:
    """The error for something that ``library`` does not do, with what it said."""
    log = error_log(library)
    reason = " ".join(log.errors[-1].split()) if log.errors else "it gives no reason"
    log.errors.clear()
    return BackendError(f"{what}: {library.__name__} {library.__version__} refuses it: {reason}")


def created(library: Any, kind: Callable[..., Any], *arguments: Any) -> Any:
    """``kind(*arguments)``, a builder, runtime, parser or refitter of ``library``.

    Raises:
        BackendError: the library makes none, as where the GPU's driver is missing or too old.
    """
    try:
        return kind(*arguments)
    except TypeError as error:  # "factory function returned nullptr"
        line = refused(library, f"making a {kind.__name__}")
        raise BackendError(f"{line}; look at nvidia-smi for the GPU and its driver") from error
