"""The steps of a generation on engines: keys and values of past tokens stay where the engine runs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.engines import KeepingEngine, Prepared
from propetl.runtime.generation.info import GenerationInfo
from propetl.runtime.generation.parts import (
    DECODER,
    DECODER_WITH_PAST,
    ENCODER,
    ENCODER_MASK,
    ENCODER_STATES,
    HIDDEN_STATES,
    LOGITS,
)
from propetl.runtime.generation.steps import Scores, Tokens
from propetl.runtime.generation.task_inputs import TaskInputs

Feeds = Mapping[str, NDArray[np.int64]]
Engines = Mapping[str, KeepingEngine]
"""By the name of the part that each runs."""


class EncoderDecoderSteps:
    """One batch through encoder, decoder and decoder with past.

    Args:
        engines: of the three parts.
        info: the backbone's sizes and special tokens.
        feeds: ``input_ids`` and ``attention_mask``, int64 ``[rows, sequence]``.
        task: what else the graphs take.
    """

    def __init__(self, engines: Engines, info: GenerationInfo, feeds: Feeds, task: TaskInputs) -> None:
        assert info.special.start is not None
        self._engines = engines
        self._feeds = feeds
        self._task = task
        self._encoder_mask = feeds["attention_mask"]
        self._start = np.full((len(feeds["input_ids"]), 1), info.special.start, dtype=np.int64)
        self._texts = np.arange(len(self._start))  # the text that each row goes back to
        self._own: dict[str, Any] = {}
        self._of_encoder: dict[str, Any] = {}

    def prompt(self) -> Tokens:
        """The start token, int64 ``[rows, 1]``."""
        return self._start

    def first(self) -> Scores:
        """Logits ``[rows, vocabulary]`` of the first token."""
        encoded = self._engines[ENCODER].call({**self._feeds, **self._task.by_row}, self._task.prepared(ENCODER))
        states = {ENCODER_STATES: encoded[HIDDEN_STATES]}
        return self._logits(DECODER, self._start, states)

    def after(self, tokens: Tokens) -> Scores:
        """Logits ``[rows, vocabulary]`` of the token that follows ``tokens``, int64 ``[rows]``."""
        return self._logits(DECODER_WITH_PAST, tokens[:, None], {**self._own, **self._of_encoder})

    def select(self, rows: Tokens) -> None:
        """Goes on with the rows at these places; what a text's rows share is moved only if their number changes."""
        engine, texts = self._engines[DECODER], self._texts[rows]
        if np.array_equal(rows, np.arange(len(self._texts))):
            return
        self._own = dict(engine.pick(self._own, rows))
        if not np.array_equal(texts, self._texts):
            self._of_encoder = dict(engine.pick(self._of_encoder, rows))
            self._task = self._task.picked(engine, rows)
            self._encoder_mask = self._encoder_mask[rows]
            self._texts = texts

    def _logits(self, part: str, tokens: Tokens, kept: Prepared) -> Scores:
        engine = self._engines[part]
        feeds = {"input_ids": tokens, ENCODER_MASK: self._encoder_mask, **self._task.by_row}
        found = engine.call(feeds, {**self._task.prepared(part), **kept})
        logits: Scores = engine.array(found.pop(LOGITS))[:, -1]
        for name, value in found.items():
            cache = self._of_encoder if ".encoder." in name else self._own
            cache[name.replace("present", "past_key_values", 1)] = value
        return logits
