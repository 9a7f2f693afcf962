"""What a worker measures of a backbone that generates: one form of its artifact."""

import time
from collections.abc import Sequence

import numpy as np

from propetl.runtime.artifact import Artifact
from propetl.runtime.bench.device import DeviceSamples
from propetl.runtime.bench.subjects import Feeds, FormSubject
from propetl.runtime.engines import EngineOptions
from propetl.runtime.forms import RunningForm
from propetl.runtime.forms.part_engines import generation_of
from propetl.runtime.forms.text_tasks import GeneratingTask, MixingTextForm
from propetl.runtime.generation.generate import generate
from propetl.runtime.generation.options import GenerationOptions
from propetl.runtime.generation.steps import Scores, Steps, Tokens


class GeneratingSubject(FormSubject):
    """A form as a session runs it, below the tokeniser; every answer is as long as it is told."""

    def __init__(
        self, artifact: Artifact, form: str, running: RunningForm, options: EngineOptions, new_tokens: int, beams: int
    ) -> None:
        super().__init__(artifact, form, running, options)
        self._generation = GenerationOptions(new_tokens, beams=beams, min_new_tokens=new_tokens)
        self._special = generation_of(artifact).special

    def run(self, task: str, feeds: Feeds) -> Tokens:
        """Tokens int64 ``[rows, tokens]``."""
        return np.stack(self._bound(task).generate(feeds, self._generation))

    def run_mixed(self, tasks: Sequence[str], feeds: Feeds) -> object:
        """One call where the form mixes tasks; otherwise one call for the rows of each task."""
        if isinstance(self._running, MixingTextForm):
            bound = [self._running.bind(task) for task in tasks]
            return self._running.generate_mixed(bound, feeds, self._generation, np.arange(len(tasks)))
        return super().run_mixed(tasks, feeds)

    def device_samples(self, task: str, feeds: Feeds, seconds: float, minimum: int) -> list[DeviceSamples]:
        """None: an answer is many calls of several engines, and no one of them is what a user waits for."""
        return []

    def token_times(self, task: str, feeds: Feeds) -> list[int]:
        """Nanoseconds from the beginning of a call to the scores of each token; of the last, to the end of the call."""
        start = time.perf_counter_ns()
        steps = _TimedSteps(self._bound(task).start(feeds))
        generate(steps, self._generation, self._special)
        return [*(end - start for end in steps.ends[:-1]), time.perf_counter_ns() - start]

    def _bound(self, task: str) -> GeneratingTask:
        bound = self._running.bind(task)
        assert isinstance(bound, GeneratingTask)  # as every task of an artifact that generates
        return bound


class _TimedSteps:
    """Steps that note when they have ended."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.ends: list[int] = []

    def prompt(self) -> Tokens:
        return self._steps.prompt()

    def first(self) -> Scores:
        return self._timed(self._steps.first())

    def after(self, tokens: Tokens) -> Scores:
        return self._timed(self._steps.after(tokens))

    def select(self, rows: Tokens) -> None:
        self._steps.select(rows)

    def _timed(self, scores: Scores) -> Scores:
        self.ends.append(time.perf_counter_ns())
        return scores
