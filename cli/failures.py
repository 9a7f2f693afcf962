"""From an exception to the one line and the exit code that a user gets."""

import errno
import importlib.util
import os
from dataclasses import dataclass

from propetl.errors import MissingExtraError, ProPETLError

WRONG_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count

# Which extra brings a module; torch and transformers come with two, see `_extra_of`.
_EXTRAS = {
    "accelerate": "train",
    "datasets": "train",
    "sklearn": "train",
    "scipy": "train",
    "yaml": "train",
    "pydantic": "train",
    "tensorboard": "train",
    "pandas": "train",
    "pyarrow": "train",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxscript": "export",
    "onnxruntime": "cpu",
    "onnxruntime_ep_nv_tensorrt_rtx": "rtx-ep",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "rtx",
    "optimum": "optimum",
    "matplotlib": "plot",
    "polygraphy": "polygraphy",
}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_ROOM = {
    **dict.fromkeys(_FULL, "no space left on the disk"),
    errno.EFBIG: "this process may write no file of that size (ulimit -f)",
}
_TRAINING_COMMANDS = {"train", "data", "import", "reproduce"}


@dataclass(frozen=True)
class Failure:
    """What the command line prints (one line, no prefix) and the code it exits with."""

    message: str
    exit_code: int


def failure_of(error: BaseException, command: str | None) -> Failure | None:
    """Return how ``error`` ends the command called ``command``; None for a defect of our own."""
    if isinstance(error, ModuleNotFoundError):
        missing = missing_extra(error, command)
        return failure_of(missing, command) if missing else None
    if isinstance(error, ProPETLError):
        return Failure(_one_line(str(error)), error.exit_code)
    if isinstance(error, OSError):
        return Failure(_one_line(_operating_system_message(error)), WRONG_INPUT)
    full = _full_disk_behind(error)
    return Failure(_one_line(full), WRONG_INPUT) if full else None


def missing_extra(error: ModuleNotFoundError, command: str | None) -> MissingExtraError | None:
    """Return the error that names the extra to install; None if no extra would bring the module."""
    module = (error.name or "").partition(".")[0]
    extra = _extra_of(module, command)
    if extra is None or _is_installed(module):
        return None
    return MissingExtraError(f"propetl {command}" if command else "propetl", module, extra)


def _extra_of(module: str, command: str | None) -> str | None:
    if module in {"torch", "transformers"}:
        return "train" if command in _TRAINING_COMMANDS else "export"
    if command == "build" and module in {"onnx", "onnx_ir"}:
        return "build"
    return _EXTRAS.get(module)


def _is_installed(module: str) -> bool:
    """True if the module is there and only a part of it is missing: no extra mends that."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _operating_system_message(error: OSError) -> str:
    where = f" {error.filename!r}" if error.filename else ""
    if error.errno in _NO_ROOM:
        return f"{_NO_ROOM[error.errno]} for{where or ' the output'}: {_remedy(error.errno)} and run the command again"
    if isinstance(error, PermissionError):
        return f"no permission for{where or ' a file'}: change its permissions or choose another path"
    if error.strerror and error.filename:
        return f"{error.strerror}:{where}"
    return str(error) or type(error).__name__


def _remedy(number: int) -> str:
    return "free some" if number in _FULL else "raise the limit"


def _full_disk_behind(error: BaseException | None) -> str | None:
    """What to say of an error that a full disk caused, or a limit on files; None for others.

    Libraries in C++ and Rust raise classes of their own, which carry the system's words.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return _operating_system_message(error)
        for number, reason in _NO_ROOM.items():
            if os.strerror(number) in str(error):
                return f"{reason}: {_remedy(number)} and run the command again ({error})"
        error = error.__cause__ or error.__context__
    return None


def _one_line(text: str) -> str:
    """Join lines and drop control characters: names in the text may come from a file that nobody vetted."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())
