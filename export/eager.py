"""``python -m propetl.export.eager``: PyTorch's side of ``propetl bench``; a worker like those of the runtime.

PyTorch is imported when a bundle is to be loaded, so that the worker can answer what is missing.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from propetl.errors import MissingExtraError
from propetl.runtime.bench.device import DeviceSamples
from propetl.runtime.bench.first_answer import print_stages
from propetl.runtime.bench.messages import Load
from propetl.runtime.bench.subjects import run_grouped
from propetl.runtime.bench.worker import serve_standard_streams

if TYPE_CHECKING:
    from propetl.model import ProPETLModel

Feeds = Mapping[str, NDArray[np.int64]]


class EagerSubject:
    """The trained model in evaluation mode, operator by operator; masks applied ahead, as they are fixed."""

    def __init__(self, model: "ProPETLModel") -> None:
        self._model = model
        self._weights = {task: model.effective(task) for task in model.tasks}

    def run(self, task: str, feeds: Feeds) -> NDArray[Any]:
        """Logits of one batch."""
        import torch

        model = self._model
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
            logits = model.head_logits(task, self._weights[task], tensors)
        found: NDArray[Any] = logits.numpy()
        return found

    def run_mixed(self, tasks: Sequence[str], feeds: Feeds) -> list[NDArray[Any]]:
        """One call for the rows of each task: the model runs one task at a time."""
        return run_grouped(self, tasks, feeds)

    def device_samples(self, task: str, feeds: Feeds, seconds: float, minimum: int) -> list[DeviceSamples]:
        """None: it runs on the CPU."""
        return []

    def adding_times(self, task: str, repeats: int) -> list[int]:
        """Not measured."""
        return []


class EagerGeneratingSubject:
    """The ``generate`` of transformers on the trained model; masks applied ahead, answers as long as it is told."""

    def __init__(self, model: "ProPETLModel", new_tokens: int, beams: int) -> None:
        self._model = model
        self._weights = {task: model.effective(task) for task in model.tasks}
        lengths = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens}
        self._options = lengths | {"num_beams": beams, "length_penalty": 1.0}

    def run(self, task: str, feeds: Feeds) -> NDArray[Any]:
        """Tokens int64 ``[rows, tokens]``."""
        import torch

        from propetl.generation import generated_ids

        model, text = self._model, self._model.infos[task].text
        assert text is not None
        with torch.inference_mode(), model.running(self._weights[task]):
            tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
            found: NDArray[Any] = generated_ids(model.network, text, tensors, **self._options).numpy()
        return found

    def run_mixed(self, tasks: Sequence[str], feeds: Feeds) -> list[NDArray[Any]]:
        """One call for the rows of each task: the model runs one task at a time."""
        return run_grouped(self, tasks, feeds)

    def token_times(self, task: str, feeds: Feeds) -> list[int]:
        """Nanoseconds from the beginning of a call to the scores of each token; of the last, to the end of the call."""
        ends: list[int] = []
        hook = self._model.network.register_forward_hook(lambda *_: ends.append(time.perf_counter_ns()))
        start = time.perf_counter_ns()
        try:
            self.run(task, feeds)
        finally:
            hook.remove()
        return [*(end - start for end in ends[:-1]), time.perf_counter_ns() - start]

    def device_samples(self, task: str, feeds: Feeds, seconds: float, minimum: int) -> list[DeviceSamples]:
        """None: it runs on the CPU."""
        return []

    def adding_times(self, task: str, repeats: int) -> list[int]:
        """Not measured."""
        return []


def load_eager(load: Load) -> EagerSubject | EagerGeneratingSubject:
    """The model of the bundle that ``load`` names.

    Raises:
        MissingExtraError: PyTorch or transformers is not installed.
        BundleError: the bundle is damaged, or its backbone is not the one found.
    """
    return _load(Path(load.source), load.threads, load.new_tokens, load.beams, load.allow_pickle)


def _load(
    source: Path, threads: int, new_tokens: int, beams: int, allow_pickle: bool
) -> EagerSubject | EagerGeneratingSubject:
    try:
        import torch

        from propetl.backbone import load_backbone_of
        from propetl.model import ProPETLModel
    except ModuleNotFoundError as error:
        raise MissingExtraError("PyTorch eager", error.name or "torch", "export") from error
    from propetl.bundle.reader import read_bundle

    torch.set_num_threads(threads)
    bundle = read_bundle(source)
    with torch.inference_mode():
        backbone = load_backbone_of(bundle.info.backbone, allow_pickle=allow_pickle)
        model = ProPETLModel.from_bundle(bundle, backbone)
        return EagerGeneratingSubject(model, new_tokens, beams) if new_tokens else EagerSubject(model)


def _import() -> None:
    import torch  # noqa: F401  # only the time it takes is wanted

    import propetl.model  # noqa: F401  # likewise


def _first_answer(asked: Mapping[str, Any]) -> None:
    inputs = {name: np.array(rows, dtype=np.int64) for name, rows in asked["inputs"].items()}

    def opening() -> Any:
        tokens, allow_pickle = int(asked.get("generates", False)), asked.get("allow_pickle", False)
        subject = _load(Path(asked["source"]), asked["threads"], tokens, beams=1, allow_pickle=allow_pickle)
        return lambda: subject.run(asked["task"], inputs)

    print_stages(_import, opening)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _first_answer(json.loads(sys.argv[1]))
    else:
        serve_standard_streams(load_eager)
