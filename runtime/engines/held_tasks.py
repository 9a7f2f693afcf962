"""A graph's own words on the tasks that it holds, against the manifest: labels, and which row or graph is whose.

The exporter writes them into every graph (``propetl.tasks``, ``propetl.labels``). A graph without them was not written
by it, and has nothing to hold.
"""

from collections.abc import Mapping
from typing import Any

from propetl.errors import ArtifactError
from propetl.runtime.manifest import GraphInfo, Manifest
from propetl.strict_json import parse_json

TASKS, LABELS = "propetl.tasks", "propetl.labels"


def check_tasks(metadata: Mapping[str, str], graph: GraphInfo, manifest: Manifest, source: str) -> None:
    """Refuses a graph that says something else of its tasks than the manifest.

    Args:
        metadata: of the loaded graph.
        graph: which one it is.
        manifest: of its artifact.
        source: of the artifact, for messages.

    Raises:
        ArtifactError: naming what differs.
    """
    if TASKS not in metadata:
        return
    where = f"{source}: {graph.path}"
    tasks, labels = _parsed(metadata, TASKS, list, where), _parsed(metadata, LABELS, dict, where)
    expected = _tasks_of(graph, manifest)
    if expected is not None and tasks != expected:
        raise _differs(graph, source, "tasks", tasks, expected)
    for task, found in labels.items():
        stated = list(manifest.tasks[task].info.labels) if task in manifest.tasks else found
        if found != stated:
            raise _differs(graph, source, f"labels of task {task!r}", found, stated)


def _parsed(metadata: Mapping[str, str], key: str, kind: type, where: str) -> Any:
    try:
        value = parse_json(metadata.get(key, ""))
    except ValueError:
        value = None
    if not isinstance(value, kind):
        found = metadata.get(key, "")[:60]
        raise ArtifactError(f"{where}: its {key} are {found!r}, which is no JSON of that; export the bundle again")
    return value


def _tasks_of(graph: GraphInfo, manifest: Manifest) -> list[str] | None:
    """The tasks that ``graph`` holds by the manifest, in the order of their rows; None where it takes any."""
    for info in manifest.forms.values():
        for part in info.each_part().values():
            for task, candidate in part.all_graphs().items():
                if candidate.path == graph.path and (task is not None or info.task_ids):
                    return [task] if task is not None else sorted(info.task_ids, key=info.task_ids.__getitem__)
    return None


def _differs(graph: GraphInfo, source: str, what: str, found: object, stated: object) -> ArtifactError:
    return ArtifactError(
        f"{source}: {graph.path}: its {what} are {found}; the manifest says {stated}; restore both from their source"
    )
