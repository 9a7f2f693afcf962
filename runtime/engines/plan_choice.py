"""Which of an artifact's engines runs a graph here: a plan fits one library, its version, and certain GPUs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from propetl.errors import BackendError
from propetl.runtime.engine_records import EngineInfo

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


def choose_engine(
    engines: Sequence[EngineInfo], form: str, task: str | None, precision: str | None, place: Place
) -> EngineInfo:
    """The first engine for a graph that fits ``place``.

    Args:
        engines: of the artifact.
        form: of the graph.
        task: that the graph is bound to; None for a graph that serves any.
        precision: which of several; None for the first.
        place: where it is to run.

    Raises:
        BackendError: none fits; says what there is, what is needed, and how to get it.
    """
    what = f"form {form}" if task is None else f"form {form}, task {task}"
    built = [engine for engine in engines if engine.target == place.target]
    built = _kept(built, lambda engine: serves(engine, form, task), f"for {what} of target {place.target}", engines)
    if precision is not None:
        built = _kept(built, lambda engine: engine.precision == precision, f"at {precision} for {what}", built)
    fitting = [engine for engine in built if _loads(engine, place.version)]
    if not fitting:
        versions = ", ".join(dict.fromkeys(engine.version for engine in built))
        raise BackendError(
            f"engines for {what} were built by {place.target} {versions}, here is {place.version}, and plans load in "
            f"the version that built them: install that one, or export again with --target {place.target}"
        )
    running = [engine for engine in fitting if _runs_on(engine, place.compute_capability)]
    if not running:
        known = ", ".join(dict.fromkeys(f"SM {item}" for engine in fitting for item in engine.compute_capabilities))
        raise BackendError(
            f"engines for {what} are for {known}, the GPU here is SM {place.compute_capability}: export again "
            f"{_for_this_gpu(place)}, or choose provider 'cuda', which runs the graph itself"
        )
    return running[0]


def serves(engine: EngineInfo, form: str, task: str | None) -> bool:
    """Whether ``engine`` answers for the graph of ``form`` that is bound to ``task``."""
    return engine.form == form and (engine.task == task if not engine.refits else task in engine.refits)


def _kept(
    engines: Sequence[EngineInfo], keep: Callable[[EngineInfo], bool], what: str, all_engines: Sequence[EngineInfo]
) -> list[EngineInfo]:
    kept = [engine for engine in engines if keep(engine)]
    if not kept:
        there = "; ".join(dict.fromkeys(map(described, all_engines))) or "none"
        raise BackendError(f"the artifact has no engine {what}; it has {there}: export with --target and --precision")
    return kept


def described(engine: EngineInfo) -> str:
    """``bank fp16 (tensorrt-rtx)``."""
    name = engine.form if engine.task is None else f"{engine.form}/{engine.task}"
    return f"{name} {engine.precision} ({engine.target})"


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
