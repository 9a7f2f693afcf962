"""What a manifest says of its engines: plans of TensorRT and TensorRT for RTX, built ahead by ``propetl export``
or ``propetl build``.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from propetl import fields

ENGINE_TARGETS = ("tensorrt", "tensorrt-rtx")
ENGINE_PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")

Sizes = tuple[int, int, int]
"""Smallest, best and largest size of a dimension."""

_MAY_BE_EMPTY = "past"
"""The one size that can be 0: that of a cache before the first token."""


@dataclass(frozen=True)
class GraphName:
    """Which graph of an artifact.

    Attributes:
        form: that it is of; ``stages`` for the graphs by which masks are applied once per switch.
        task: that it is bound to; None for a graph that serves several.
        part: ``model`` where form and task have one graph; a stage, or a part by which a backbone generates.
    """

    form: str
    task: str | None
    part: str

    def __str__(self) -> str:
        part = None if self.part == "model" else self.part
        return "/".join(filter(None, (self.form, self.task, part)))


@dataclass(frozen=True)
class Profile:
    """One range of shapes that an engine was optimised for.

    Attributes:
        sizes: smallest, best and largest size of each named dimension of the graph's inputs: ``batch``,
            ``sequence``; ``labels`` where heads are inputs, ``rows`` where weights are; ``target``, ``past`` and
            ``present`` of a decoder.
    """

    sizes: Mapping[str, Sizes]

    def holds(self, **sizes: int) -> bool:
        """Whether every given size is in range, such as ``profile.holds(batch=8, sequence=64)``."""
        return all(self.sizes[name][0] <= size <= self.sizes[name][2] for name, size in sizes.items())

    def __str__(self) -> str:
        return ", ".join(f"{name} {'/'.join(map(str, sizes))}" for name, sizes in self.sizes.items())

    @classmethod
    def from_json(cls, value: Any) -> "Profile":
        """From name -> list of three sizes."""
        return cls({name: _sizes(name, sizes) for name, sizes in fields.entries(value, "a profile").items()})


def _sizes(name: str, value: Any) -> Sizes:
    whole = isinstance(value, list) and len(value) == 3 and all(type(size) is int for size in value)
    least = 0 if name == _MAY_BE_EMPTY else 1
    if not whole or not least <= value[0] <= value[1] <= value[2] <= fields.MOST:
        expected = f"smallest, best and largest size, rising from {least}"
        raise ValueError(f"profile of {name!r}: expected {expected}; got {fields.shown(value)}")
    return (value[0], value[1], value[2])


@dataclass(frozen=True)
class EngineInfo:
    """One plan file of an artifact. Its inputs and outputs are those of the graph that it was built from.

    Attributes:
        path: inside the artifact, forward slashes.
        form: of the graph; ``stages`` for the two that switchable and bank share.
        task: that a folded plan is bound to; None for a plan that serves several.
        part: ``model`` where form and task have one graph; else which of them.
        target: ``tensorrt`` or ``tensorrt-rtx``; a plan of one does not load in the other.
        version: of the library that built it.
        compute_capabilities: GPUs that it runs on, as 86 for SM 8.6.
        precision: of weights and matrix products (int8: of the backbone's, the rest is fp16); inputs and
            outputs keep the graph's types.
        profiles: ranges of shapes, one optimisation profile each, in the engine's order.
        hardware_compatible: built to run on later GPU architectures, too (TensorRT only).
        version_compatible: built to load in later versions of the library, too (TensorRT only).
        weights_graph: ONNX graph from which the weights of a stripped plan have to be restored; None for a
            plan that has them.
        refits: of a plan that serves several tasks by refitting: task -> file with its weights by name.
        calibration_rows: rows by which the ranges of int8 were measured; 0 for other precisions.
        workspace_bytes: limit on scratch memory; None for all there is.
        optimization_level: how long the builder may look for kernels, 0 to 5.
        build_seconds: wall time of the build.
    """

    path: str
    form: str
    task: str | None
    part: str
    target: str
    version: str
    compute_capabilities: tuple[int, ...]
    precision: str
    profiles: tuple[Profile, ...]
    hardware_compatible: bool = False
    version_compatible: bool = False
    weights_graph: str | None = None
    refits: dict[str, str] = field(default_factory=dict)
    calibration_rows: int = 0
    workspace_bytes: int | None = None
    optimization_level: int = 3
    build_seconds: float = 0.0

    @property
    def name(self) -> GraphName:
        """The graph that it was built from; of one that is refitted the task is open."""
        return GraphName(self.form, self.task, self.part)

    @property
    def serves(self) -> tuple[GraphName, ...]:
        """Graphs whose answers it gives: of its task, of every task that it is refitted for, or of any."""
        tasks: tuple[str | None, ...] = tuple(self.refits) or (self.task,)
        return tuple(GraphName(self.form, task, self.part) for task in tasks)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that is needed to run it."""
        graph = () if self.weights_graph is None else (self.weights_graph,)
        return (self.path, *graph, *self.refits.values())

    def to_json(self) -> dict[str, Any]:
        """As written to ``artifact.json``."""
        profiles = [{name: list(sizes) for name, sizes in profile.sizes.items()} for profile in self.profiles]
        return asdict(self) | {"compute_capabilities": list(self.compute_capabilities), "profiles": profiles}

    @classmethod
    def from_json(cls, value: Any) -> "EngineInfo":
        """Inverse of :meth:`to_json`."""
        found = fields.record(value, "an engine", cls.__dataclass_fields__)
        return cls(**{key: read(found[key], f"an engine's {key}") for key, read in _READERS.items()})


def _capabilities(value: Any, key: str) -> tuple[int, ...]:
    if not fields.items(value, key):
        raise fields.unexpected(value, key, "numbers such as 86")
    return tuple(fields.whole(item, key) for item in value)


def _profiles(value: Any, key: str) -> tuple[Profile, ...]:
    return tuple(map(Profile.from_json, fields.items(value, key)))


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "path": fields.text,
    "form": fields.text,
    "task": partial(fields.optional, fields.text),
    "part": fields.text,
    "target": fields.text,
    "version": fields.text,
    "compute_capabilities": _capabilities,
    "precision": fields.text,
    "profiles": _profiles,
    "hardware_compatible": fields.flag,
    "version_compatible": fields.flag,
    "weights_graph": partial(fields.optional, fields.text),
    "refits": partial(fields.each, fields.text),
    "calibration_rows": fields.whole,
    "workspace_bytes": partial(fields.optional, partial(fields.whole, largest=fields.MOST_BYTES)),
    "optimization_level": fields.whole,
    "build_seconds": fields.number,
}
"""The reader of each key of an engine."""
