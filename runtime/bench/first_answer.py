"""``python -m propetl.runtime.bench.first_answer``: what a program that answers one row goes through.

Imports as little as such a program would, so that the parent, which times the whole process, times that.
Prints the nanoseconds of each stage. Its argument is JSON: ``{"source", "runtime", "task", "verify",
"provider", "threads", "device", "engine_cache", "batch_size", "precision", "inputs": {name: [[…]]}}``.
"""

import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

Call = Callable[[], object]


def print_stages(imports: Call, opening: Callable[[], Call]) -> None:
    """Runs the three stages and prints ``{"imports", "opening", "running"}`` in nanoseconds as one line."""
    moments = [time.perf_counter_ns()]
    imports()
    moments.append(time.perf_counter_ns())
    run = opening()
    moments.append(time.perf_counter_ns())
    run()
    moments.append(time.perf_counter_ns())
    stages = zip(("imports", "opening", "running"), pairwise(moments), strict=True)
    print(json.dumps({name: end - start for name, (start, end) in stages}), flush=True)


def _import() -> None:
    import propetl.runtime.session  # noqa: F401  # only the time it takes is wanted; opening imports the engine


def _open(asked: dict[str, Any]) -> Call:
    import numpy as np

    inputs = {name: np.array(rows, dtype=np.int64) for name, rows in asked["inputs"].items()}
    if asked["runtime"] == "bare":
        return _open_bare(asked, inputs)
    from propetl.runtime.session import Session

    session = Session.open(
        asked["source"],
        asked["provider"],
        asked["runtime"],
        asked["threads"],
        asked["batch_size"],
        verify=asked["verify"],
        device=asked["device"],
        engine_cache=_folder(asked["engine_cache"]),
        precision=asked["precision"],
    )
    return lambda: session.run(asked["task"], inputs)


def _open_bare(asked: dict[str, Any], inputs: dict[str, Any]) -> Call:
    from propetl.runtime.artifact import read_artifact
    from propetl.runtime.bench.subjects import BareSubject
    from propetl.runtime.engines import EngineOptions

    artifact = read_artifact(asked["source"], asked["verify"])
    options = EngineOptions(
        asked["provider"],
        asked["threads"],
        device=asked["device"],
        engine_cache=_folder(asked["engine_cache"]),
        batch_size=asked["batch_size"],
        precision=asked["precision"],
    )
    subject = BareSubject(artifact, options)
    return lambda: subject.run(asked["task"], inputs)


def _folder(asked: str | None) -> Path | None:
    return None if asked is None else Path(asked)


def main() -> None:
    """Runs as the argument says."""
    asked = json.loads(sys.argv[1])
    print_stages(_import, lambda: _open(asked))


if __name__ == "__main__":
    main()
