"""A tiny backbone and three small tasks, one of which a bag of letters solves."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from propetl.training.config import TrainConfig
from propetl.training.config_file import config_from
from tests.tiny_backbone import tiny_backbone

TASKS: dict[str, Any] = {
    "mood": {"columns": "text", "labels": ["bad", "good"]},
    "topic": {"columns": ["text", "other"], "labels": ["a", "b", "c"], "metrics": ["accuracy", "f1"]},
    "degree": {"columns": "text", "problem": "regression", "metrics": ["spearman", "pearson"]},
}
ROWS = {"mood": 52, "topic": 30, "degree": 21}
DEV_ROWS = 20
HYBRID: dict[str, Any] = {
    "tasks": {"mood": {**TASKS["mood"], "language": "de"}, "topic": {**TASKS["topic"], "language": "en"}},
    "prototype": {"bottleneck": 4, "masks": "hybrid", "sparsity": 0.3},
    "temperature": 10,
    "label_smoothing": 0.1,
}


class Killed(BaseException):
    """Stands for SIGKILL where one process is enough; test_kill.py sends the real one."""


def kill(*_: object) -> None:
    """In place of a function: a run ends where it would have called it."""
    raise Killed


@pytest.fixture(scope="session")
def backbone_folder(tmp_path_factory) -> Path:
    return tiny_backbone(tmp_path_factory.mktemp("training") / "bert")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    """``mood`` is said by its first letter; the labels of the others are drawn."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(3)
    for task, rows in ROWS.items():
        (root / task).mkdir()
        for split, count in (("train", rows), ("dev", DEV_ROWS)):
            lines = [_row(task, number, random) for number in range(count)]
            header = "text\tother\tlabel" if task == "topic" else "text\tlabel"
            (root / task / f"{split}.tsv").write_text("\n".join([header, *lines, ""]))
    return root


def _row(task: str, number: int, random: np.random.Generator) -> str:
    def words(count: int) -> str:
        letters = random.choice(list("mnopqrst"), size=(count, 3))
        return " ".join("".join(word) for word in letters)

    if task == "mood":
        return f"{'xz'[number % 2] * 4} {words(random.integers(1, 3))}\t{number % 2}"
    if task == "topic":
        return f"{words(random.integers(1, 9))}\t{words(2)}\t{'abc'[number % 3]}"
    return f"{words(random.integers(1, 5))}\t{random.random() * 5:.2f}"


def small_config(places: dict[str, Path], **changes: Any) -> TrainConfig:
    """A configuration for a few steps; keyword arguments replace keys, two underscores standing for a dot."""
    tasks = changes.pop("tasks", ("mood", "topic"))
    values = {
        **{name: str(path) for name, path in places.items()},
        "prototype": {"bottleneck": 4},
        "tasks": tasks if isinstance(tasks, dict) else {name: TASKS[name] for name in tasks},
        "max_length": 24,
        "batch_size": 8,
        "max_steps": 6,
        "eval_every": 2,
        "log_every": 1,
        "tensorboard": False,
        "device": "cpu",
    }
    return config_from(values, {key.replace("__", "."): value for key, value in changes.items()}, "test")


@pytest.fixture
def make_config(backbone_folder, data_folder, tmp_path):
    """:func:`small_config` for a run in this test's folder."""
    return partial(small_config, {"backbone": backbone_folder, "data": data_folder, "output": tmp_path / "run"})


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny tensors gain nothing from more; a configuration may set the threads of the whole process, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
