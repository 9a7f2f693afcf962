"""What the Python models of a repository have to know of the artifact: ``propetl.json`` beside their ``model.py``."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from propetl import fields
from propetl.errors import ArtifactError, ProPETLError, TaskError
from propetl.files import read_json
from propetl.task import TaskSpec

SETTINGS = "propetl.json"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class ServedTask:
    """One task of a served model.

    Attributes:
        info: problem, labels, columns.
        task_id: its row of the bank; 0 in a folded model.
    """

    info: TaskSpec
    task_id: int


@dataclass(frozen=True)
class Settings:
    """The content of ``propetl.json``.

    Attributes:
        max_length: tokens to which texts are truncated.
        pad_token_id: fills shorter rows.
        pad_to: rows are filled up to a multiple of this, so that Triton finds requests of one shape to batch.
        inputs: token inputs of the model.
        names_task: whether every row of a request names its task; a folded model has one and is not told.
        tasks: by name.
    """

    max_length: int
    pad_token_id: int
    pad_to: int
    inputs: tuple[str, ...]
    names_task: bool
    tasks: dict[str, ServedTask]

    def task(self, name: str) -> ServedTask:
        """The task called ``name``; an unknown one is a :class:`TaskError` that names those there are."""
        if name not in self.tasks:
            raise TaskError(f"task {name!r} is not served here; there are {', '.join(sorted(self.tasks))}")
        return self.tasks[name]

    def tasks_of(self, names: list[str] | None, rows: int) -> list[tuple[str, ServedTask]]:
        """Name and task of each of ``rows`` rows; ``names`` is None where requests do not name them.

        Raises:
            TaskError: an unknown task, or not one name for each row.
        """
        if names is None:
            return list(self.tasks.items()) * rows
        if len(names) != rows:
            raise TaskError(f"{rows} rows, but {len(names)} tasks; give one task for each row")
        return [(name, self.task(name)) for name in names]

    def to_json(self) -> dict[str, Any]:
        """As written."""
        tasks = {name: {"info": task.info.to_json(), "task_id": task.task_id} for name, task in self.tasks.items()}
        return asdict(self) | {"tasks": tasks}

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        """What stands in ``folder``.

        Raises:
            ArtifactError: the file is missing or damaged.
        """
        value = read_json(folder / SETTINGS, "served model", ArtifactError)
        try:
            found = fields.record(value, "settings", cls.__dataclass_fields__)
            return cls(
                max_length=fields.whole(found["max_length"], "max_length", 1),
                pad_token_id=fields.whole(found["pad_token_id"], "pad_token_id"),
                pad_to=fields.whole(found["pad_to"], "pad_to", 1),
                inputs=fields.texts(found["inputs"], "inputs"),
                names_task=fields.flag(found["names_task"], "names_task"),
                tasks=fields.each(_served_task, found["tasks"], "tasks"),
            )
        except (ValueError, ProPETLError) as error:
            raise ArtifactError(f"{folder / SETTINGS}: not valid ({error}); export the repository again") from error


def _served_task(value: Any, key: str) -> ServedTask:
    found = fields.record(value, key, ("info", "task_id"))
    info = TaskSpec.from_json(key.removeprefix("tasks."), found["info"])
    return ServedTask(info, fields.whole(found["task_id"], f"{key}.task_id"))


def version_folder(arguments: dict[str, str]) -> Path:
    """The folder of the running version, out of what Triton hands to ``initialize``."""
    return Path(arguments["model_repository"]) / arguments["model_version"]
