"""Which of an artifact's engines runs a graph here: a plan fits one library, its version, and certain GPUs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from propetl.errors import BackendError
from propetl.runtime.engine_records import EngineInfo, GraphName

_FIRST_COMPATIBLE = 80
"""Hardware-compatible plans are for Ampere and later."""


@dataclass(frozen=True)
class Place:
    """What an engine has to fit.

    Attributes:
        target: ``tensorrt`` or ``tensorrt-rtx``.
        version: of the installed library.
        compute_capability: of the GPU, as 86 for SM 8.6.
    """

    target: str
    version: str
    compute_capability: int


def choose_engine(engines: Sequence[EngineInfo], graph: GraphName, precision: str | None, place: Place) -> EngineInfo:
    """The first engine for a graph that fits ``place``.

    Args:
        engines: of the artifact.
        graph: that is to be run.
        precision: which of several; None for the first.
        place: where it is to run.

    Raises:
        BackendError: none fits; says what there is, what is needed, and how to get it.
    """
    what = f"graph {graph}"
    built = [engine for engine in engines if engine.target == place.target]
    built = _kept(built, lambda engine: graph in engine.serves, f"for {what} of target {place.target}", engines)
    if precision is not None:
        built = _kept(built, lambda engine: engine.precision == precision, f"at {precision} for {what}", built)
    fitting = [engine for engine in built if _loads(engine, place.version)]
    if not fitting:
        versions = ", ".join(dict.fromkeys(engine.version for engine in built))
        raise BackendError(
            f"engines for {what} were built by {place.target} {versions}, here is {place.version}, and plans load in "
            f"the version that built them: install that one, or propetl build them again with --target {place.target}"
        )
    running = [engine for engine in fitting if _runs_on(engine, place.compute_capability)]
    if not running:
        known = ", ".join(dict.fromkeys(f"SM {item}" for engine in fitting for item in engine.compute_capabilities))
        raise BackendError(
            f"engines for {what} are for {known}, the GPU here is SM {place.compute_capability}: propetl build "
            f"them again {_for_this_gpu(place)}, or choose provider 'cuda', which runs the graph itself"
        )
    return running[0]


def _kept(
    engines: Sequence[EngineInfo], keep: Callable[[EngineInfo], bool], what: str, all_engines: Sequence[EngineInfo]
) -> list[EngineInfo]:
    kept = [engine for engine in engines if keep(engine)]
    if not kept:
        there = "; ".join(dict.fromkeys(map(described, all_engines))) or "none"
        raise BackendError(
            f"the artifact has no engine {what}; it has {there}: propetl build adds some (--target, --precision)"
        )
    return kept


def described(engine: EngineInfo) -> str:
    """``bank fp16 (tensorrt-rtx)``."""
    return f"{engine.name} {engine.precision} ({engine.target})"


def _loads(engine: EngineInfo, version: str) -> bool:
    """A plan loads in the version that built it; a version-compatible one in later ones of the same major, too."""
    if engine.version == version:
        return True
    built, here = _numbers(engine.version), _numbers(version)
    return engine.version_compatible and built[0] == here[0] and here >= built


def _runs_on(engine: EngineInfo, capability: int) -> bool:
    if capability in engine.compute_capabilities:
        return True
    oldest = max(_FIRST_COMPATIBLE, min(engine.compute_capabilities))
    return engine.hardware_compatible and capability >= oldest


def _for_this_gpu(place: Place) -> str:
    return f"with --sm {place.compute_capability}" if place.target == "tensorrt-rtx" else "on this device"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
