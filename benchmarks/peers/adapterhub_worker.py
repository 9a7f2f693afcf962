"""``python -m peers.adapterhub_worker``: bottleneck adapters of the AdapterHub library ``adapters``, in PyTorch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from peers import TASKS
from peers.ort_sessions import Feeds, by_task, work_folder
from peers.torch_models import classifier, logits_of, randomise
from propetl.runtime.bench.messages import Load
from propetl.runtime.bench.worker import serve_standard_streams


class AdapterHub:
    """An adapter of bottleneck 32 for each task, after the feed-forward part as Pfeiffer places it."""

    def __init__(self, source: str) -> None:
        import adapters

        self._model = classifier(source)
        adapters.init(self._model)
        config = adapters.SeqBnConfig(reduction_factor=12)
        for task in TASKS:
            self._model.add_adapter(task, config=config)
        randomise(self._model, "adapters.")
        self._model.eval()
        saved = work_folder() / "adapterhub"
        if not saved.exists():
            self._model.save_all_adapters(str(saved))
        self._active = ""

    def run(self, task: str, feeds: Feeds) -> np.ndarray:
        """Logits of one batch; the adapter is switched where it is another."""
        if self._active != task:
            self._model.set_active_adapters(task)
            self._active = task
        return logits_of(self._model, feeds)

    def run_mixed(self, tasks: Sequence[str], feeds: Feeds) -> list[np.ndarray]:
        """One call for the rows of each task."""
        return by_task(self, tasks, feeds)

    def adding_times(self, task: str, repeats: int) -> list[int]:
        """Not measured."""
        return []


def load(asked: Load) -> Any:
    """The model with its adapters."""
    torch.set_num_threads(asked.threads)
    return AdapterHub(asked.source)


if __name__ == "__main__":
    serve_standard_streams(load)
