"""Generated tasks: seeded rows of English words, for demonstrations and tests without any download.

Four tasks, each with its grammar (EBNF) at the top of a module of ``propetl.data.grammar``:

    verdict   one sentence  2 classes   negation scope and "but"/"although" decide
    topic     one sentence  4 classes   the words decide
    roles     a pair        3 classes   who stands on which side of a relation decides
    likeness  a pair        0 to 5      how many parts of an event are repeated, by the same roles

A bag of words solves ``topic`` alone. Labels are balanced; no row occurs twice, neither within a split nor
across the two. Rows depend on task, seed and sizes only: ``random.Random`` gives the same numbers on
every machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random

from propetl.data.grammar import likeness, roles, topic, verdict
from propetl.errors import ConfigurationError, TaskError
from propetl.task import TaskSpec

TRAIN_ROWS = 4096
DEV_ROWS = 512
SEED = 0
ATTEMPTS = 200
"""Draws in search of one new row before the grammar counts as used up."""


@dataclass(frozen=True)
class GeneratedTask:
    """A task and how to draw texts for one of its levels: a class index, or a whole-number score.

    ``label`` writes a level as files do.
    """

    spec: TaskSpec
    levels: int
    texts: Callable[[Random, int], tuple[str, ...]]
    label: Callable[[int], str] = str


@dataclass(frozen=True)
class GeneratedRow:
    """The texts of a row and its label as it stands in a file."""

    texts: tuple[str, ...]
    label: str


def _classes(name: str, columns: int, labels: tuple[str, ...]) -> TaskSpec:
    return TaskSpec(name, ("sentence1", "sentence2")[:columns], labels=labels)


_TASKS = {
    task.spec.name: task
    for task in (
        GeneratedTask(_classes("verdict", 1, ("negative", "positive")), 2, verdict.texts),
        GeneratedTask(_classes("topic", 1, tuple(t.name for t in topic.TOPICS)), len(topic.TOPICS), topic.texts),
        GeneratedTask(_classes("roles", 2, ("entailment", "neutral", "contradiction")), 3, roles.texts),
        GeneratedTask(
            TaskSpec(
                "likeness",
                ("sentence1", "sentence2"),
                problem="regression",
                metrics=("pearson", "spearman"),
            ),
            6,
            likeness.texts,
            "{}.0".format,
        ),
    )
}

GENERATED: dict[str, TaskSpec] = {name: task.spec for name, task in _TASKS.items()}
"""The generated tasks by name."""


def generated_rows(
    task: str, train_rows: int = TRAIN_ROWS, dev_rows: int = DEV_ROWS, seed: int = SEED
) -> tuple[list[GeneratedRow], list[GeneratedRow]]:
    """Draw the train and the dev rows of one task.

    Raises:
        TaskError: there is no generated task of this name.
        ConfigurationError: a size is below one, or the grammar has no more rows.
    """
    grammar = generated_task(task)
    for name, size in (("train_rows", train_rows), ("dev_rows", dev_rows)):
        if size < 1:
            raise ConfigurationError(f"{name} is {size}: give 1 or more")
    rng = Random(f"propetl {task} {seed}")
    seen: set[tuple[str, ...]] = set()
    dev = _draw(grammar, dev_rows, rng, seen)
    return _draw(grammar, train_rows, rng, seen), dev


def generated_task(task: str) -> GeneratedTask:
    """The generated task of this name.

    Raises:
        TaskError: there is none.
    """
    if task not in _TASKS:
        raise TaskError(f"task {task!r} is not generated: use one of {', '.join(_TASKS)}")
    return _TASKS[task]


def write_generated(
    folder: str | Path,
    tasks: tuple[str, ...] | list[str] | None = None,
    train_rows: int = TRAIN_ROWS,
    dev_rows: int = DEV_ROWS,
    seed: int = SEED,
) -> tuple[Path, ...]:
    """Write ``<task>/train.tsv`` and ``<task>/dev.tsv`` for each task, laid out like GLUE.

    A folder that this function has written before (it holds ``generated.json``) is written over task by task;
    each file is replaced as a whole.

    Args:
        folder: made where it is not there.
        tasks: names of ``GENERATED``; all by default.
        train_rows: rows in each train.tsv.
        dev_rows: rows in each dev.tsv.
        seed: another seed gives other rows.

    Returns:
        The files written.

    Raises:
        TaskError: a name is unknown.
        ConfigurationError: the folder holds something else, cannot be written, or a size cannot be met.
    """
    from propetl.data.generated_folder import write_folder

    names = tuple(dict.fromkeys(GENERATED if tasks is None else tasks))
    drawn = {name: generated_rows(name, train_rows, dev_rows, seed) for name in names}
    files = {
        f"{name}/{split}.tsv": _tsv(GENERATED[name], rows)
        for name, splits in drawn.items()
        for split, rows in zip(("train", "dev"), splits, strict=True)
    }
    return write_folder(Path(folder).expanduser(), files, seed)


def _draw(grammar: GeneratedTask, count: int, rng: Random, seen: set[tuple[str, ...]]) -> list[GeneratedRow]:
    """``count`` new rows, the levels in turn so that they balance, then shuffled."""
    rows = [_new_row(grammar, number % grammar.levels, rng, seen) for number in range(count)]
    rng.shuffle(rows)
    return rows


def _new_row(grammar: GeneratedTask, level: int, rng: Random, seen: set[tuple[str, ...]]) -> GeneratedRow:
    for _ in range(ATTEMPTS):
        texts = grammar.texts(rng, level)
        if texts not in seen:
            seen.add(texts)
            return GeneratedRow(texts, grammar.label(level))
    raise ConfigurationError(f"task {grammar.spec.name!r} has no more new rows after {len(seen)}: ask for fewer rows")


def _tsv(spec: TaskSpec, rows: list[GeneratedRow]) -> str:
    lines = chain([(*spec.columns, spec.label_column)], ((*row.texts, row.label) for row in rows))
    return "".join("\t".join(line) + "\n" for line in lines)
