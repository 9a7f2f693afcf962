"""Where engines are kept that a provider builds on the device, so that the next start does not build them again."""

import os
from pathlib import Path

from propetl.errors import ConfigurationError
from propetl.files import json_bytes, make_folder, sha256_of_bytes
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.manifest import BACKBONE_FILE, GraphInfo

_DIGITS = 20


def cache_root(options: EngineOptions) -> Path:
    """The folder that the user names, else ``propetl/engines`` in the user's cache folder."""
    if options.engine_cache is not None:
        return options.engine_cache
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the specification of XDG_CACHE_HOME: a relative path is to be ignored
        base = Path.home() / ".cache"
    return base / "propetl" / "engines"


def cache_folder(artifact: Artifact, graph: GraphInfo, options: EngineOptions) -> Path:
    """A folder for the engines of ``graph`` alone; it is there when this returns.

    ONNX Runtime names cached engines by the names of a graph's nodes and not by its weights. The folded graphs
    of two tasks have the same nodes: in one folder, the second task would be answered with the weights of the
    first. So the folder is named by the hashes of the graph, of the shared weights, and by what the engine is
    built for.

    Raises:
        ConfigurationError: the folder cannot be made.
    """
    files = artifact.manifest.files
    key = [files[graph.path]["sha256"], files[BACKBONE_FILE]["sha256"], options.provider, options.batch_size]
    folder = cache_root(options) / sha256_of_bytes(json_bytes(key))[:_DIGITS]
    try:
        make_folder(folder)
    except OSError as error:
        raise ConfigurationError(
            f"engine cache {folder}: cannot be made ({error.strerror}); choose another folder with --engine-cache"
        ) from error
    return folder
