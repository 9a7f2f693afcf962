"""``python -m peers.peft_worker``: plain PyTorch, and PEFT.

Runtimes: ``eager`` and ``compiled`` (backbone and head, no adapter), ``peft`` (several LoRA adapters in PyTorch,
batches mixed by ``adapter_names``).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from peers.ort_sessions import Feeds
from peers.peft_graphs import peft_model, saved
from peers.torch_models import classifier, logits_of
from propetl.runtime.bench.messages import Load
from propetl.runtime.bench.worker import serve_standard_streams


class PlainModel:
    """Backbone and head in PyTorch."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def run(self, task: str, feeds: Feeds) -> np.ndarray:
        """Logits of one batch."""
        return logits_of(self._model, feeds)

    def run_mixed(self, tasks: Sequence[str], feeds: Feeds) -> np.ndarray:
        """It knows no tasks."""
        return logits_of(self._model, feeds)

    def adding_times(self, task: str, repeats: int) -> list[int]:
        """Not measured."""
        return []


class PeftModels(PlainModel):
    """One PEFT model with an adapter for each task."""

    def run(self, task: str, feeds: Feeds) -> np.ndarray:
        """Logits of one batch; the adapter is switched where it is another."""
        if self._model.active_adapter != task:
            self._model.set_adapter(task)
        return logits_of(self._model, feeds)

    def run_mixed(self, tasks: Sequence[str], feeds: Feeds) -> np.ndarray:
        """One call: ``adapter_names`` says which adapter each row takes."""
        return logits_of(self._model, feeds, adapter_names=list(tasks))


def load(asked: Load) -> Any:
    """The runtime that ``asked`` names."""
    torch.set_num_threads(asked.threads)
    kind = asked.runtime
    if kind == "eager":
        return PlainModel(classifier(asked.source))
    if kind == "compiled":
        return PlainModel(torch.compile(classifier(asked.source), dynamic=False))
    return PeftModels(saved(peft_model(asked.source)))


if __name__ == "__main__":
    serve_standard_streams(load)
