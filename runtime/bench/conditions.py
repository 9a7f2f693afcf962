"""Under which conditions figures were taken: machine, versions, load."""

import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import propetl
from propetl.runtime.engines import ENGINE_PACKAGES

_FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16")
_ARM_FLAGS = ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_PACKAGES = ("numpy", "tokenizers", "safetensors", *ENGINE_PACKAGES)
_EAGER_PACKAGES = ("torch", "transformers")


@dataclass(frozen=True)
class Conditions:
    """The machine and its state before the first measurement.

    Attributes:
        date: UTC, ISO 8601.
        cpu: model name.
        cpu_flags: those that matter to matrix multiplication.
        cores: that the machine shows.
        usable_cores: that this process may run on.
        memory_bytes: of the machine.
        governor: of CPU 0's frequency; None where it cannot be read.
        system: kernel and architecture.
        versions: Python, propetl and packages.
        load_average: 1, 5 and 15 minutes.
        busy_cores: cores that were busy before anything was measured; None where it cannot be read.
    """

    date: str
    cpu: str
    cpu_flags: tuple[str, ...]
    cores: int
    usable_cores: int
    memory_bytes: int
    governor: str | None
    system: str
    versions: dict[str, str]
    load_average: tuple[float, float, float]
    busy_cores: float | None


def conditions_now(eager: bool, sampling_seconds: float = 0.5) -> Conditions:
    """Looks around, watching the cores for ``sampling_seconds``; ``eager`` adds PyTorch's version."""
    text = _text_of(Path("/proc/cpuinfo")) or ""
    cpu, flags = cpu_of(text)
    return Conditions(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu=cpu or platform.processor() or platform.machine(),
        cpu_flags=flags,
        cores=os.cpu_count() or 1,
        usable_cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        governor=_text_of(_GOVERNOR),
        system=platform.platform(),
        versions=_versions(eager),
        load_average=os.getloadavg(),
        busy_cores=busy_cores(sampling_seconds),
    )


def cpu_of(cpuinfo: str) -> tuple[str, tuple[str, ...]]:
    """Model name (empty if there is none) and flags of interest out of the text of ``/proc/cpuinfo``."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    found = set((fields.get("flags") or fields.get("features") or "").split())
    return fields.get("model name", ""), tuple(flag for flag in (*_FLAGS, *_ARM_FLAGS) if flag in found)


def busy_cores(seconds: float) -> float | None:
    """Cores that did work over the next ``seconds``, while this process sleeps."""
    before, start = _busy_ticks(), time.monotonic()
    time.sleep(seconds)
    after, taken = _busy_ticks(), time.monotonic() - start
    if before is None or after is None:
        return None
    return round((after - before) / (os.sysconf("SC_CLK_TCK") * taken), 2)


def busy_ticks_of(stat: str) -> int:
    """Time that all cores did not idle, in ticks, out of the text of ``/proc/stat``."""
    user, nice, system, _idle, _waiting, *others = (int(field) for field in stat.splitlines()[0].split()[1:9])
    return user + nice + system + sum(others)


def _busy_ticks() -> int | None:
    text = _text_of(Path("/proc/stat"))
    return None if text is None else busy_ticks_of(text)


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _versions(eager: bool) -> dict[str, str]:
    found = {"python": platform.python_version(), "propetl": propetl.__version__}
    for name in (*_PACKAGES, *(_EAGER_PACKAGES if eager else ())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
