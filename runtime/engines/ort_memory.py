"""What sessions of ONNX Runtime in one process can share, and what they need not keep."""

import ctypes
import threading
from contextlib import suppress
from typing import Any

_lock = threading.Lock()
_shared: list[Any] = []


def share_activations(runtime: Any, chosen: Any) -> None:
    """Has sessions with the options ``chosen`` take memory for activations from one arena of the process.

    An arena of its own keeps what the largest batch of a session took until it ends, and sessions seldom all run at
    once. Weights are not in it: their memory goes with their session.

    Args:
        runtime: the module onnxruntime.
        chosen: its session options.
    """
    with _lock:
        if not _shared:
            _shared.append(_registered(runtime))
    chosen.add_session_config_entry("session.use_env_allocators", "1")


def _registered(runtime: Any) -> Any:
    """ONNX Runtime's own description of the memory, for which the process now has one arena."""
    memory = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    by_default = -1
    arena = runtime.OrtArenaCfg(0, by_default, by_default, by_default)
    with suppress(Exception):  # whoever uses ONNX Runtime beside us has registered one already: that one will do
        runtime.create_and_register_allocator(memory, arena)
    return memory


def forget_graph(session: Any) -> None:
    """Lets go of the bytes that ``session`` was made from.

    ONNX Runtime (1.31.1) keeps them for making the session again with another provider, which is never done here; they
    are as large as the weights that a folded graph has of its own.
    """
    session._model_bytes = None


def give_back_scraps() -> None:
    """Gives free memory back to the system, where the C library can: half a millisecond.

    ONNX Runtime (1.31.1) packs every weight of a tuned graph only to find it packed in its file, and frees it; what is
    kept between these pieces holds the rest of their pages.
    """
    with suppress(OSError, TypeError, AttributeError):  # another system, or another C library
        ctypes.CDLL(None).malloc_trim(0)
