"""Numbers that are not finite are no answer: an error names the row and the task, and no label is made of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from propetl.errors import AnswerError

Logits = NDArray[np.float32]


def check_answers(
    logits: Logits | Sequence[Logits], tasks: Sequence[str], rows: Sequence[int], mask: NDArray[np.int64]
) -> None:
    """Refuses a batch in which a row's logits are not all finite; those of padding are not looked at.

    Args:
        logits: of each row, ``[outputs]`` or, where its task tags, ``[sequence, outputs]``.
        tasks: of each row.
        rows: the places of the rows in the caller's order.
        mask: which tokens are attended to, ``[rows, sequence]``.

    Raises:
        AnswerError: of the first such row in the caller's order.
    """
    if isinstance(logits, np.ndarray) and np.isfinite(logits).all():
        return
    bad = [place for place, found in enumerate(logits) if not _finite(found, mask[place])]
    if bad:
        first = min(bad, key=lambda place: rows[place])
        raise no_answer(rows[first], tasks[first])


def check_scores(scores: Logits, rows: NDArray[np.int64], counted: NDArray[np.bool_]) -> None:
    """Refuses scores of next tokens ``[sequences, vocabulary]`` that are not all finite.

    Args:
        scores: as the model gives them.
        rows: the place in the caller's order that each sequence belongs to.
        counted: sequences that matter: others have ended.

    Raises:
        AnswerError: of the first such row; it names no task.
    """
    if np.isfinite(scores).all():
        return
    bad = rows[counted & ~np.isfinite(scores).all(axis=1)]
    if len(bad):
        raise no_answer(int(bad.min()))


def no_answer(row: int, task: str | None = None, where: str | None = None) -> AnswerError:
    """The error for a row; ``where`` names it if that is not by its place in the call."""
    of_task = "" if task is None else f" of task {task!r}"
    return AnswerError(
        f"{where or f'row {row}'}: the logits{of_task} are no finite numbers, and no answer is made of them; run "
        "propetl validate on the artifact, and where its precision is fp16 export it again at fp32",
        row,
        task,
    )


def _finite(logits: Logits, mask: NDArray[np.int64]) -> bool:
    return bool(np.isfinite(logits if logits.ndim == 1 else logits[mask == 1]).all())
