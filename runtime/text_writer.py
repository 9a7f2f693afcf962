"""Rows to generated texts: prompts in front, batches in between, tokens back to text."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from propetl.errors import AnswerError
from propetl.problems.text import text_of
from propetl.runtime.batching import Batch, batches_of_token_rows
from propetl.runtime.finite import no_answer
from propetl.runtime.forms import BoundTask, RunningForm
from propetl.runtime.forms.text_tasks import GeneratingTask, MixingTextForm
from propetl.runtime.generation.options import GenerationChoices, GenerationOptions, SpecialTokens, options_for
from propetl.runtime.generation.steps import Tokens
from propetl.runtime.generation.stream import OnText, TextStream
from propetl.runtime.rows import Text, source_of
from propetl.runtime.tokenise import Tokeniser


@dataclass(frozen=True)
class TextWriter:
    """Writes the answers of tasks that have no head.

    Attributes:
        tokeniser: of the artifact.
        special: its backbone's start, end and padding tokens.
        batch_size: rows that are run at once at most.
    """

    tokeniser: Tokeniser
    special: SpecialTokens
    batch_size: int

    def write(
        self, bound: BoundTask, batches: Sequence[Batch], choices: GenerationChoices, stream: OnText | None
    ) -> list[str]:
        """The answers of one task, in the order of the call's rows.

        Raises:
            ConfigurationError: ``choices`` that do not go together, or a stream with beam search.
        """
        options = options_for(text_of(bound.info), choices)
        answers: dict[int, str] = {}
        for batch in batches:
            pieces = None if stream is None else TextStream(self.tokeniser, self.special, batch.rows, stream)
            with _naming([bound], batch.rows):
                tokens = _tokens_of(bound, batch, options, batch.rows, pieces)
            if pieces is not None:
                pieces.close()
            answers |= self._texts(batch.rows, tokens)
        return [answers[place] for place in range(len(answers))]

    def write_mixed(
        self, running: RunningForm, tasks: Sequence[BoundTask], texts: Sequence[Text], choices: GenerationChoices
    ) -> list[str]:
        """The answers to rows of any tasks, in their order.

        Forms bank and switchable run tasks together that answer in the same way; folded runs one after the other.
        """
        mixing = running if isinstance(running, MixingTextForm) else None
        answers: dict[int, str] = {}
        for name, info in {task.name: task.info for task in tasks}.items():
            self.tokeniser.check_prompt(name, text_of(info))
        for options, places in _alike(tasks, choices, together=mixing is not None):
            sources = [source_of(tasks[place].info, texts[place]) for place in places]
            for batch in batches_of_token_rows(self.tokeniser.rows(sources), self.tokeniser, self.batch_size):
                here = np.array([places[row] for row in batch.rows])
                chosen = [tasks[place] for place in here]
                with _naming(chosen, here):
                    if mixing is not None:
                        tokens = mixing.generate_mixed(chosen, batch.feeds, options, here)
                    else:
                        tokens = _tokens_of(chosen[0], batch, options, here, None)
                answers |= self._texts(here, tokens)
        return [answers[place] for place in range(len(tasks))]

    def _texts(self, places: Tokens, tokens: list[Tokens]) -> dict[int, str]:
        return dict(zip(places.tolist(), map(self.tokeniser.decode, tokens), strict=True))


@contextmanager
def _naming(tasks: Sequence[BoundTask], places: Tokens) -> Iterator[None]:
    """Adds the task to the error of a row without an answer; ``tasks`` are by row, or one for all rows."""
    try:
        yield
    except AnswerError as error:
        task = tasks[places.tolist().index(error.row) if len(tasks) > 1 else 0]
        raise no_answer(error.row, task.name) from error


def _tokens_of(
    bound: BoundTask, batch: Batch, options: GenerationOptions, places: Tokens, pieces: TextStream | None
) -> list[Tokens]:
    assert isinstance(bound, GeneratingTask)  # as every task of an artifact that generates
    return bound.generate(batch.feeds, options, places, pieces)


def _alike(
    tasks: Sequence[BoundTask], choices: GenerationChoices, together: bool
) -> list[tuple[GenerationOptions, list[int]]]:
    """Places of rows that can be one batch: they generate in the same way, and are of one task if not ``together``."""
    groups: dict[object, tuple[GenerationOptions, list[int]]] = {}
    for place, task in enumerate(tasks):
        options = options_for(text_of(task.info), choices)
        groups.setdefault(options if together else task.name, (options, []))[1].append(place)
    return list(groups.values())
