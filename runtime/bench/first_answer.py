"""``python -m propetl.runtime.bench.first_answer``: what a program that answers one row goes through.

Imports as little as such a program would, so that the parent, which times the whole process, times that.
Prints the nanoseconds of each stage. Its argument is a :class:`FirstAnswer` as JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

Call = Callable[[], object]


@dataclass(frozen=True)
class FirstAnswer:
    """What a cold process is to answer; all that it is told, as JSON on its command line.

    Attributes:
        source, runtime, task, provider, threads, device, engine_cache, batch_size, precision: as for
            :class:`~propetl.runtime.bench.messages.Load`.
        verify: hash files first.
        inputs: token ids of one row, by name.
        engine_module: what importing the engine means.
        generates: whether the answer is the first token of a text, and not logits.
        allow_pickle: of PyTorch eager: read a backbone that has no safetensors.
    """

    source: str
    runtime: str
    task: str
    verify: bool
    inputs: dict[str, list[list[int]]]
    provider: str = "cpu"
    threads: int = 1
    device: int = 0
    engine_cache: str | None = None
    batch_size: int = 1
    precision: str | None = None
    engine_module: str = "onnxruntime"
    generates: bool = False
    allow_pickle: bool = False


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


def _import(engine_module: str) -> None:
    import_module(engine_module)

    import propetl.runtime.session  # noqa: F401  # only the time it takes is wanted


def _open(asked: FirstAnswer) -> Call:
    import numpy as np

    inputs = {name: np.array(rows, dtype=np.int64) for name, rows in asked.inputs.items()}
    cache = None if asked.engine_cache is None else Path(asked.engine_cache)
    if asked.runtime == "bare":
        return _open_bare(asked, inputs, cache)
    from propetl.runtime.session import Session

    session = Session.open(
        asked.source,
        asked.provider,
        asked.runtime,
        asked.threads,
        asked.batch_size,
        verify=asked.verify,
        device=asked.device,
        engine_cache=cache,
        precision=asked.precision,
    )
    if asked.generates:
        return lambda: session.generate(asked.task, inputs, beams=1, max_new_tokens=1)
    return lambda: session.run(asked.task, inputs)


def _open_bare(asked: FirstAnswer, inputs: dict[str, Any], cache: Path | None) -> Call:
    from propetl.runtime.artifact import read_artifact
    from propetl.runtime.bench.subjects import BareSubject
    from propetl.runtime.engines import EngineOptions

    options = EngineOptions(
        asked.provider,
        asked.threads,
        device=asked.device,
        engine_cache=cache,
        batch_size=asked.batch_size,
        precision=asked.precision,
    )
    subject = BareSubject(read_artifact(asked.source, asked.verify), options)
    return lambda: subject.run(asked.task, inputs)


def main() -> None:
    """Runs as the argument says."""
    asked = FirstAnswer(**json.loads(sys.argv[1]))
    print_stages(partial(_import, asked.engine_module), lambda: _open(asked))


if __name__ == "__main__":
    main()
