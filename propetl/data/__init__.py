"""Tasks, their rows and their metrics. Imports neither torch nor transformers."""

from propetl.data.metrics import compute, prediction_of
from propetl.data.tables import Rows, load_split
from propetl.data.tasks import TASKS, TaskSpec

__all__ = ["TASKS", "Rows", "TaskSpec", "compute", "load_split", "prediction_of"]
