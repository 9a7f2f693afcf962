"""A manifest's engines against its forms, tasks and files."""

from collections.abc import Mapping

from propetl.errors import ArtifactError
from propetl.runtime.engine_records import ENGINE_PRECISIONS, ENGINE_TARGETS, EngineInfo, GraphName
from propetl.runtime.graph_names import named_graphs
from propetl.runtime.manifest import GraphInfo, Manifest


def check_engines(manifest: Manifest) -> None:
    """Checks every engine of ``manifest`` against its forms, tasks and files.

    Raises:
        ArtifactError: an unknown target or precision, a graph that is not there, a profile that leaves a dimension
            open, or a file that is not listed.
    """
    graphs, paths = named_graphs(manifest.forms), set[str]()
    for engine in manifest.engines:
        _check_engine(engine, manifest, graphs)
        if engine.path in paths:
            raise _wrong(engine, "it is listed twice")
        paths.add(engine.path)


def _check_engine(engine: EngineInfo, manifest: Manifest, graphs: Mapping[GraphName, GraphInfo]) -> None:
    for key, found, known in (
        ("target", engine.target, ENGINE_TARGETS),
        ("precision", engine.precision, ENGINE_PRECISIONS),
    ):
        if found not in known:
            raise _wrong(engine, f"{key} {found!r} is not known here (known: {', '.join(known)})")
    if unlisted := [path for path in engine.files if path not in manifest.files]:
        raise _wrong(engine, f"{unlisted[0]} is not among the artifact's files")
    served = [name for name in engine.serves if name in graphs]
    if len(served) < len(engine.serves) or not served:
        raise _wrong(engine, f"the artifact has no graph {engine.name}")
    inputs = [item for name in served for item in graphs[name].inputs]
    named = {size for item in inputs for size in item.shape if isinstance(size, str)}
    for profile in engine.profiles:
        if profile.sizes.keys() != named:
            raise _wrong(engine, f"its profile is of {', '.join(profile.sizes)}; expected {', '.join(sorted(named))}")
    if not engine.profiles:
        raise _wrong(engine, "it has no profile")


def _wrong(engine: EngineInfo, reason: str) -> ArtifactError:
    return ArtifactError(f"engine {engine.path}: {reason}; export the bundle again")
