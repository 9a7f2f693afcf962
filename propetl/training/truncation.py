"""How many rows of a run are longer than it reads: said on the screen, in the log and in the report."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from propetl.runtime.truncation import Truncated
from propetl.training.tasks import Split, TrainingTask


def truncated(split: Split) -> Truncated:
    """The rows of ``split`` that lost tokens."""
    lengths = split.lengths + split.rows.cut
    return Truncated(len(split), int((split.rows.cut > 0).sum()), int(lengths.max(initial=0)))


def truncation_json(tasks: Iterable[TrainingTask]) -> dict[str, Any]:
    """By task and split: ``rows``, ``truncated``, ``share``, ``longest`` in tokens; ``answers_truncated`` if any."""
    return {task.spec.name: {name: _json(split) for name, split in _splits(task).items()} for task in tasks}


def truncation_lines(tasks: Sequence[TrainingTask], max_length: int) -> list[str]:
    """A line for each task and split with truncated rows, or one that says that there are none."""
    found = {
        f"{task.spec.name}, {name}": truncated(split) for task in tasks for name, split in _splits(task).items()
    }
    lines = [f"{where}: {item.line(max_length)}" for where, item in found.items() if item.truncated]
    return [*(lines or [f"no row is longer than max_length {max_length}"]), *_answer_lines(tasks)]


def _answer_lines(tasks: Iterable[TrainingTask]) -> Iterator[str]:
    for task in tasks:
        for name, split in _splits(task).items():
            if (text := task.spec.text) is not None and split.rows.answers_cut:
                yield (
                    f"{task.spec.name}, {name}: {split.rows.answers_cut} of {len(split)} answers are longer than "
                    f"max_target_length {text.max_target_length} and were truncated"
                )


def _splits(task: TrainingTask) -> dict[str, Split]:
    return {"train": task.train, "dev": task.dev}


def _json(split: Split) -> dict[str, Any]:
    found, answers = truncated(split), split.rows.answers_cut
    return {
        "rows": found.rows,
        "truncated": found.truncated,
        "share": round(found.share, 6),
        "longest": found.longest,
        **({"answers_truncated": answers} if answers else {}),
    }
