"""The steps of a generation by a decoder alone, which goes on writing its prompt."""

from typing import Any

import numpy as np

from propetl.runtime.engines import KeepingEngine
from propetl.runtime.generation.cached_steps import Engines, Feeds
from propetl.runtime.generation.info import GenerationInfo
from propetl.runtime.generation.parts import LOGITS
from propetl.runtime.generation.steps import Scores, Tokens
from propetl.runtime.generation.task_inputs import TaskInputs
from propetl.runtime.manifest import MODEL

_PAST = "past_key_values.{}.{}"


class DecoderSteps:
    """One batch through the one graph of a decoder; its cache is empty at first.

    Args:
        engines: of the one part.
        info: the backbone's sizes and special tokens.
        feeds: ``input_ids`` and ``attention_mask``, int64 ``[rows, sequence]``, padded on any side.
        task: what else the graph takes.
    """

    def __init__(self, engines: Engines, info: GenerationInfo, feeds: Feeds, task: TaskInputs) -> None:
        self._engine: KeepingEngine = engines[MODEL]
        self._task = task
        # Padding goes before the prompts, whose last tokens then stand side by side.
        order = np.argsort(feeds["attention_mask"], axis=1, kind="stable")
        self._prompt, self._mask = (
            np.take_along_axis(feeds[name], order, axis=1) for name in ("input_ids", "attention_mask")
        )
        self._texts = np.arange(len(order))  # the prompt that each row goes back to
        empty = np.zeros((len(order), info.heads, 0, info.head_size), dtype=np.float32)
        names = [_PAST.format(layer, kind) for layer in range(info.layers) for kind in ("key", "value")]
        self._cache: dict[str, Any] = dict(self._engine.prepare(dict.fromkeys(names, empty)))

    def prompt(self) -> Tokens:
        """The prompts, int64 ``[rows, length]``, padded in front."""
        return self._prompt

    def first(self) -> Scores:
        """Logits ``[rows, vocabulary]`` of the first token."""
        positions = np.maximum(self._mask.cumsum(axis=1) - 1, 0)
        return self._logits(self._prompt, positions)

    def after(self, tokens: Tokens) -> Scores:
        """Logits ``[rows, vocabulary]`` of the token that follows ``tokens``, int64 ``[rows]``."""
        self._mask = np.pad(self._mask, ((0, 0), (0, 1)), constant_values=1)
        return self._logits(tokens[:, None], self._mask.sum(axis=1, keepdims=True) - 1)

    def select(self, rows: Tokens) -> None:
        """Goes on with the rows at these places."""
        if np.array_equal(rows, np.arange(len(self._mask))):
            return
        self._cache = dict(self._engine.pick(self._cache, rows))
        texts = self._texts[rows]
        if not np.array_equal(texts, self._texts):
            self._task = self._task.picked(self._engine, rows)
            self._mask = self._mask[rows]
            self._texts = texts

    def _logits(self, tokens: Tokens, positions: Tokens) -> Scores:
        feeds = {"input_ids": tokens, "attention_mask": self._mask, "position_ids": positions, **self._task.by_row}
        found = self._engine.call(feeds, {**self._task.prepared(MODEL), **self._cache})
        logits: Scores = self._engine.array(found.pop(LOGITS))[:, -1]
        self._cache = {name.replace("present", "past_key_values", 1): value for name, value in found.items()}
        return logits
