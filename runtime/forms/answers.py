"""From a graph's logits to those of each row's task.

Where a task of an artifact tags, its graphs for any task answer at every token. For a task that answers once a row, the
answer is then the one at the token that its head reads.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.forms import Feeds, Logits
from propetl.task import TaskSpec


def answers_of(logits: Logits, info: TaskSpec, feeds: Feeds, family: str) -> Logits:
    """What a batch of one task says.

    Args:
        logits: of the graph, ``[batch, widest]`` or ``[batch, sequence, widest]``.
        info: of the task.
        feeds: token inputs int64 ``[batch, sequence]``.
        family: of the backbone.

    Returns:
        ``[batch, outputs]``, or ``[batch, sequence, outputs]`` of a task that tags.
    """
    if logits.ndim > len(info.kind.axes) + 1:
        logits = logits[np.arange(len(logits)), _read_places(feeds, family)]
    return logits[..., : info.outputs]


def answers_by_row(logits: Logits, infos: Sequence[TaskSpec], feeds: Feeds, family: str) -> list[Logits]:
    """The same for a batch with a task for each row: ``[outputs]``, or ``[sequence, outputs]``, row by row."""
    if logits.ndim == 2:
        return [row[: info.outputs] for row, info in zip(logits, infos, strict=True)]
    places = _read_places(feeds, family)
    rows = zip(logits, infos, places, strict=True)
    return [(row[place] if row.ndim > len(info.kind.axes) else row)[..., : info.outputs] for row, info, place in rows]


def _read_places(feeds: Feeds, family: str) -> NDArray[np.int64]:
    """Where a head reads: the first token, of a decoder the last real one. int64 ``[batch]``."""
    from propetl.families import family_of  # here: of the answers of most artifacts nothing is left out

    mask = feeds["attention_mask"]
    return (
        mask.cumsum(axis=1).argmax(axis=1)
        if family_of(family).kind == "decoder"
        else np.zeros(len(mask), dtype=np.int64)
    )
