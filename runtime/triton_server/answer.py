"""Logits to labels inside Triton, as a session's ``predict`` gives them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.errors import ArtifactError
from propetl.runtime.finite import no_answer
from propetl.runtime.signatures import LOGITS
from propetl.runtime.triton_server.requests import Answer, respond, string_tensor, tensor_of
from propetl.runtime.triton_server.settings import Settings, version_folder
from propetl.runtime.triton_server.tokenise import task_names

LABEL, SCORE = "label", "score"


class TritonPythonModel:
    """Takes ``logits`` ``[rows, width]`` and, in form bank, ``task`` ``[rows, 1]``."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Reads the settings of the version that Triton loads."""
        self._settings = Settings.read(version_folder(arguments))

    def execute(self, requests: list[Any]) -> list[Any]:
        """``label`` (empty for a regression) and ``score``, ``[rows, 1]`` each, for each request."""
        return respond(requests, self._answer)

    def _answer(self, request: Any) -> Answer:
        logits = tensor_of(request, LOGITS)
        tasks = self._settings.tasks_of(task_names(request, self._settings), len(logits))
        widest = max((task.info.outputs for _, task in tasks), default=0)
        if logits.shape[1] < widest:
            raise ArtifactError(f"logits are {logits.shape[1]} wide, a task has {widest}; export the repository again")
        rows = [row[: task.info.outputs] for row, (_, task) in zip(logits, tasks, strict=True)]
        _check_finite(rows, [name for name, _ in tasks])
        found = [task.info.kind.prediction(task.info, row) for row, (_, task) in zip(rows, tasks, strict=True)]
        scores = np.array([[prediction.score] for prediction in found], dtype=np.float32)
        return {LABEL: string_tensor([prediction.label or "" for prediction in found]), SCORE: scores}


def _check_finite(rows: list[NDArray[np.float32]], names: list[str]) -> None:
    for place, (row, name) in enumerate(zip(rows, names, strict=True)):
        if not np.isfinite(row).all():
            raise no_answer(place, name)
