"""Memory of the running process, as Linux accounts for it."""

from dataclasses import dataclass
from pathlib import Path

from propetl.errors import BackendError
from propetl.runtime.engines.cuda_runtime import load_cuda

SMAPS = Path("/proc/self/smaps_rollup")


@dataclass(frozen=True)
class Memory:
    """Bytes of one process.

    Attributes:
        pss: proportional set size: a page shared by n processes counts 1/n.
        rss: resident set size: shared pages count in full.
        private: pages that no other process shares.
    """

    pss: int
    rss: int
    private: int


def memory_of(rollup: str) -> Memory:
    """Parses the text of ``smaps_rollup``."""
    sizes: dict[str, int] = {}
    for line in rollup.splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            sizes[name] = 1024 * int(rest.split()[0])
    return Memory(sizes["Pss"], sizes["Rss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def device_memory(device: int) -> dict[str, int]:
    """``free`` and ``total`` bytes of a GPU, whoever holds them; nothing where CUDA cannot be asked."""
    try:
        free, total = load_cuda(device, "gpu").memory()
    except BackendError:
        return {}
    return {"free": free, "total": total}


def own_memory(source: Path = SMAPS) -> Memory:
    """Memory of this process.

    Raises:
        BackendError: the system does not tell, as it is not Linux.
    """
    try:
        return memory_of(source.read_text())
    except OSError as error:
        raise BackendError(f"{source} cannot be read: memory is measured on Linux only") from error
