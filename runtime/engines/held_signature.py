"""A loaded engine against what the manifest says that its graph takes and gives."""

from collections.abc import Sequence
from typing import Protocol

from propetl.errors import ArtifactError
from propetl.runtime.manifest import GraphInfo, TensorSignature

_UNNAMED = "?"
"""A free size of which the engine knows no name."""


class Signed(Protocol):
    """Inputs and outputs that an engine reports."""

    def inputs(self) -> tuple[TensorSignature, ...]:
        """Inputs that the loaded graph really has."""

    def outputs(self) -> tuple[TensorSignature, ...]:
        """Outputs that the loaded graph really has."""


def check_signature(engine: Signed, graph: GraphInfo, source: str) -> None:
    """Refuses an engine whose inputs or outputs are not those of ``graph``: other names, types, sizes or free sizes.

    Args:
        engine: as it was loaded.
        graph: as the manifest states it.
        source: of the artifact, for messages.

    Raises:
        ArtifactError: showing both.
    """
    inputs, outputs = engine.inputs(), engine.outputs()
    for stated, real, kind in ((graph.inputs, inputs, "inputs"), (graph.outputs, outputs, "outputs")):
        if not _agree(stated, real):
            raise ArtifactError(
                f"{source}: {graph.path}: its {kind} are {_shown(real)}; the manifest says {_shown(stated)}; "
                "restore both from their source"
            )
    if not _names_agree(graph, inputs, outputs):
        raise ArtifactError(
            f"{source}: {graph.path}: its free sizes are in other places: {_shown((*inputs, *outputs))}; the manifest "
            f"says {_shown((*graph.inputs, *graph.outputs))}; restore both from their source"
        )


def _agree(stated: Sequence[TensorSignature], real: Sequence[TensorSignature]) -> bool:
    return {item.name: _generic(item) for item in stated} == {item.name: _generic(item) for item in real}


def _generic(item: TensorSignature) -> tuple[str, tuple[int | None, ...]]:
    """Type and shape; engines may rename free sizes, so here only that they are free counts."""
    return item.dtype, tuple(size if isinstance(size, int) else None for size in item.shape)


def _names_agree(graph: GraphInfo, inputs: Sequence[TensorSignature], outputs: Sequence[TensorSignature]) -> bool:
    """Whether free sizes that are one in the manifest are one in the engine, as far as it has names for them.

    Engines make up names for sizes of outputs that they computed: only those that inputs have, too, count there.
    """
    known = dict[str, str]()  # by the engine's name
    for name, stated in _pairs(graph.inputs, inputs):
        if known.setdefault(name, stated) != stated:
            return False
    one_name_each = len(set(known.values())) == len(known)
    return one_name_each and all(known.get(name, stated) == stated for name, stated in _pairs(graph.outputs, outputs))


def _pairs(stated: Sequence[TensorSignature], real: Sequence[TensorSignature]) -> list[tuple[str, str]]:
    """The engine's name and the manifest's of every free size that has both."""
    found = {item.name: item.shape for item in real}
    sizes = [pair for item in stated for pair in zip(found[item.name], item.shape, strict=True)]
    return [
        (name, wanted)
        for name, wanted in sizes
        if isinstance(name, str) and isinstance(wanted, str) and name != _UNNAMED
    ]


def _shown(items: Sequence[TensorSignature]) -> str:
    return "; ".join(sorted(map(str, items)))
