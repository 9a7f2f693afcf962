"""Texts to token ids inside Triton, by the tokeniser that a session uses."""

from typing import Any

import numpy as np

from propetl.runtime.rows import Text, check_text, source_of
from propetl.runtime.signatures import TASK_ID
from propetl.runtime.tokenise import Tokeniser
from propetl.runtime.triton_server.requests import Answer, respond, strings_of
from propetl.runtime.triton_server.settings import TOKENIZER, Settings, version_folder

TASK, TEXT = "task", "text"


class TritonPythonModel:
    """Takes ``text`` ``[rows, columns]`` and, in form bank, ``task`` ``[rows, 1]``."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Reads settings and tokeniser of the version that Triton loads."""
        folder = version_folder(arguments)
        self._settings = settings = Settings.read(folder)
        self._tokeniser = Tokeniser(folder / TOKENIZER, settings.max_length, settings.pad_token_id, settings.inputs)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Token ids int64 ``[rows, tokens]`` for each request, in form bank with ``task_id`` ``[rows, 1]``."""
        return respond(requests, self._answer)

    def _answer(self, request: Any) -> Answer:
        rows = [_row(parts) for parts in strings_of(request, TEXT)]
        tasks = self._settings.tasks_of(task_names(request, self._settings), len(rows))
        for index, ((name, task), row) in enumerate(zip(tasks, rows, strict=True)):
            check_text(name, task.info, row, f"row {index}")
        sources = [source_of(task.info, row) for (_, task), row in zip(tasks, rows, strict=True)]
        feeds = self._tokeniser(sources)
        padded = {name: self._filled(name, tensor) for name, tensor in feeds.items()}
        if not self._settings.names_task:
            return padded
        return padded | {TASK_ID: np.array([[task.task_id] for _, task in tasks], dtype=np.int64)}

    def _filled(self, name: str, tensor: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """``[rows, tokens]`` filled up to a multiple, but no further than the longest row that there can be."""
        length, step = tensor.shape[1], self._settings.pad_to
        wanted = max(length, min(-(-length // step) * step, self._settings.max_length))
        filler = self._settings.pad_token_id if name == "input_ids" else 0
        return np.pad(tensor, ((0, 0), (0, wanted - length)), constant_values=filler)


def task_names(request: Any, settings: Settings) -> list[str] | None:
    """The task of each row, where requests name it."""
    return [name for (name,) in strings_of(request, TASK)] if settings.names_task else None


def _row(parts: list[str]) -> Text:
    return parts[0] if len(parts) == 1 else tuple(parts)
