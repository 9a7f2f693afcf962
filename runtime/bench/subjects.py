"""What a worker measures: one form of an artifact, or the bare backbone."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from propetl.errors import ArtifactError
from propetl.runtime.artifact import Artifact, read_artifact
from propetl.runtime.bench.device import DeviceSamples, engine_inputs, measure_device
from propetl.runtime.bench.messages import Load
from propetl.runtime.engines import EngineOptions, load_engine
from propetl.runtime.forms import MixingForm, RunningForm
from propetl.runtime.forms.choose import choose_form, open_form
from propetl.runtime.forms.staged import StagedTask
from propetl.runtime.session import Session
from propetl.runtime.signatures import BARE

Feeds = Mapping[str, NDArray[np.int64]]


class Subject(Protocol):
    """One runtime under measurement."""

    def run(self, task: str, feeds: Feeds) -> NDArray[Any]:
        """Logits of one batch; token ids in, logits out."""

    def run_mixed(self, tasks: Sequence[str], feeds: Feeds) -> object:
        """Logits of a batch with one task for each row, by the best way that the runtime has."""

    def device_samples(self, task: str, feeds: Feeds, seconds: float, minimum: int) -> list[DeviceSamples]:
        """Times of the device for one batch; none where there is no device."""

    def adding_times(self, task: str, repeats: int) -> list[int]:
        """Nanoseconds of adding ``task`` to a running session; none if the runtime cannot."""


@runtime_checkable
class TokenTimer(Protocol):
    """A runtime that generates; ``run`` of it generates as many tokens as it was loaded for."""

    def token_times(self, task: str, feeds: Feeds) -> list[int]:
        """Nanoseconds from the beginning of a call to the scores of each token; of the last, to the end of the call."""


def load_subject(load: Load) -> Subject:
    """The runtime that ``load`` names, with the engine of its task loaded."""
    artifact = read_artifact(load.source)
    options = EngineOptions(
        load.provider,
        load.threads,
        device=load.device,
        engine_cache=None if load.engine_cache is None else Path(load.engine_cache),
        batch_size=load.batch_size,
        precision=load.precision,
        timed=load.timed,
    )
    if load.runtime == BARE:
        return BareSubject(artifact, options)
    running = open_form(artifact, choose_form(artifact, load.runtime), options)
    running.engines(load.task)
    if load.new_tokens:
        from propetl.runtime.bench.generating_subject import GeneratingSubject  # it is a subject of this module's

        return GeneratingSubject(artifact, load.runtime, running, options, load.new_tokens, load.beams)
    return FormSubject(artifact, load.runtime, running, options)


class BareSubject:
    """The backbone and one linear head, exported the same way: the yardstick."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        info = artifact.manifest.forms.get(BARE)
        if info is None or info.graph is None:
            raise ArtifactError(f"{artifact.path}: it has no form {BARE}; export it with it")
        self._engine = load_engine(artifact, info.graph, options)

    def run(self, task: str, feeds: Feeds) -> NDArray[Any]:
        """Logits of one batch; the bare backbone knows no tasks."""
        return self._engine.run(feeds, {})

    def run_mixed(self, tasks: Sequence[str], feeds: Feeds) -> object:
        """As any batch."""
        return self._engine.run(feeds, {})

    def device_samples(self, task: str, feeds: Feeds, seconds: float, minimum: int) -> list[DeviceSamples]:
        """Times of the device for one batch."""
        return measure_device(self._engine, feeds, {}, seconds, minimum)

    def adding_times(self, task: str, repeats: int) -> list[int]:
        """It has no tasks to add."""
        return []


class FormSubject:
    """A form as a session runs it, below the tokeniser."""

    def __init__(self, artifact: Artifact, form: str, running: RunningForm, options: EngineOptions) -> None:
        self._artifact = artifact
        self._form = form
        self._running = running
        self._options = options

    def run(self, task: str, feeds: Feeds) -> NDArray[Any]:
        """Logits of one batch."""
        return self._running.bind(task).infer(feeds)

    def run_mixed(self, tasks: Sequence[str], feeds: Feeds) -> object:
        """One call where the form mixes tasks; otherwise one call for the rows of each task."""
        if isinstance(self._running, MixingForm):
            return self._running.infer_mixed([self._running.bind(task) for task in tasks], feeds)
        return run_grouped(self, tasks, feeds)

    def device_samples(self, task: str, feeds: Feeds, seconds: float, minimum: int) -> list[DeviceSamples]:
        """Times of the device for one batch."""
        engine = self._running.engines(task)[-1][1]  # of two stages the one that runs text
        bound = self._running.bind(task)
        if isinstance(bound, StagedTask):
            return measure_device(engine, feeds, bound.weights(), seconds, minimum)
        fed, prepared = engine_inputs(self._artifact, self._form, task, engine, feeds)
        return measure_device(engine, fed, prepared, seconds, minimum)

    def adding_times(self, task: str, repeats: int) -> list[int]:
        """Takes ``task`` out of a session of its own and adds it again from the artifact's pack."""
        pack = self._artifact.path / self._artifact.task(task).pack
        options = self._options
        taken = []
        with Session.open(
            self._artifact.path,
            options.provider,
            self._form,
            options.threads,
            options.batch_size,
            device=options.device,
            engine_cache=options.engine_cache,
            precision=options.precision,
        ) as session:
            for _ in range(repeats):
                session.remove_task(task)
                start = time.perf_counter_ns()
                session.add_task(pack)
                taken.append(time.perf_counter_ns() - start)
        return taken


def run_grouped(subject: Subject, tasks: Sequence[str], feeds: Feeds) -> list[NDArray[Any]]:
    """One call for the rows of each task, as a session does for forms that cannot mix; logits by row."""
    logits: dict[int, NDArray[Any]] = {}
    for task in dict.fromkeys(tasks):
        rows = [row for row, wanted in enumerate(tasks) if wanted == task]
        found = subject.run(task, {name: tensor[rows] for name, tensor in feeds.items()})
        logits |= dict(zip(rows, found, strict=True))
    return [logits[row] for row in range(len(tasks))]
