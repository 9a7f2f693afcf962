"""Rows to logits: tokenised, run in batches, and put back in the order of the call."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from propetl.bundle.words import at_words
from propetl.errors import AnswerError
from propetl.runtime.batching import Batch, batches_of_feeds, batches_of_token_rows
from propetl.runtime.finite import check_answers, no_answer
from propetl.runtime.forms import BoundTask, Logits, MixingForm
from propetl.runtime.rows import Text, TokenArrays, checked_texts, source_of, token_feeds
from propetl.runtime.tokenise import Tokeniser, TokenRow

Texts = Iterable[Text] | TokenArrays


@dataclass(frozen=True)
class LogitsReader:
    """Reads the logits of tasks that have a head.

    Attributes:
        tokeniser: of the artifact.
        token_inputs: names of the token inputs that its graphs take.
        batch_size: rows that are run at once at most.

    Raises:
        AnswerError: from every method, if the logits of a row are not finite; it names the row and the task.
    """

    tokeniser: Tokeniser
    token_inputs: tuple[str, ...]
    batch_size: int

    def batches(self, bound: BoundTask, texts: Texts) -> list[Batch]:
        """Batches of a call's rows, which are checked here."""
        if isinstance(texts, Mapping):
            return list(batches_of_feeds(token_feeds(texts, self.token_inputs), self.batch_size))
        checked = checked_texts(bound.name, bound.info, texts)
        rows = self.tokeniser.rows([source_of(bound.info, text) for text in checked])
        return list(batches_of_token_rows(rows, self.tokeniser, self.batch_size))

    def rows(self, bound: BoundTask, texts: Texts) -> Logits:
        """Logits ``[rows, outputs]`` of a task that answers once a row."""
        batches = self.batches(bound, texts)
        logits = np.empty((sum(len(batch.rows) for batch in batches), bound.info.outputs), dtype=np.float32)
        for batch in batches:
            logits[batch.rows] = _inferred(bound, batch)
        return logits

    def tokens(self, bound: BoundTask, arrays: TokenArrays) -> Logits:
        """Logits ``[rows, sequence, outputs]`` of a task that answers at every token."""
        return np.concatenate([_inferred(bound, batch) for batch in self.batches(bound, arrays)])

    def words(self, bound: BoundTask, texts: Sequence[Text]) -> list[Logits]:
        """Logits ``[words, outputs]`` of each text, which were checked; of a task that answers at every token."""
        rows = self.tokeniser.rows([source_of(bound.info, text) for text in texts], [True] * len(texts))
        found: dict[int, Logits] = {}
        for batch in batches_of_token_rows(rows, self.tokeniser, self.batch_size):
            found |= _of_rows(batch, rows, _inferred(bound, batch))
        return [found[index] for index in range(len(rows))]

    def together(self, running: MixingForm, tasks: Sequence[BoundTask], texts: Sequence[Text]) -> list[Logits]:
        """Logits of each row, whose task is the one at its place; batches mix tasks."""
        logits: dict[int, Logits] = {}
        sources = [source_of(task.info, text) for task, text in zip(tasks, texts, strict=True)]
        rows = self.tokeniser.rows(sources, [task.info.kind.answers_words for task in tasks])
        for batch in batches_of_token_rows(rows, self.tokeniser, self.batch_size):
            chosen = [tasks[index] for index in batch.rows]
            found = running.infer_mixed(chosen, batch.feeds)
            check_answers(found, [task.name for task in chosen], batch.rows.tolist(), batch.feeds["attention_mask"])
            logits |= _of_rows(batch, rows, found)
        return [logits[index] for index in range(len(texts))]

    def by_task(self, tasks: Sequence[BoundTask], texts: Sequence[Text]) -> list[Logits]:
        """The same, one task after the other."""
        logits: dict[int, Logits] = {}
        for bound in {task.name: task for task in tasks}.values():
            rows = [index for index, task in enumerate(tasks) if task is bound]
            try:
                found = bound.info.kind.logits(self, bound, [texts[index] for index in rows])
            except AnswerError as error:
                raise no_answer(rows[error.row], bound.name) from error
            logits |= dict(zip(rows, found, strict=True))
        return [logits[index] for index in range(len(texts))]


def _inferred(bound: BoundTask, batch: Batch) -> Logits:
    """Logits of a batch of one task; :class:`AnswerError` if those of a row are not finite."""
    logits = bound.infer(batch.feeds)
    check_answers(logits, [bound.name] * len(batch.rows), batch.rows.tolist(), batch.feeds["attention_mask"])
    return logits


def _of_rows(batch: Batch, rows: Sequence[TokenRow], logits: Iterable[Logits]) -> dict[int, Logits]:
    """Logits by the row's place in the call: of words where the row's words matter, else as they are."""
    answers = {}
    for index, found in zip(batch.rows.tolist(), logits, strict=True):
        places = rows[index].places
        answers[index] = found if places is None else at_words(found, places)
    return answers
