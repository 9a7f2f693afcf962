"""``python -m peers.peft_worker``: plain PyTorch, PEFT, and ONNX Runtime over graphs made from PEFT models.

Runtimes: ``eager`` and ``compiled`` (backbone and head, no adapter), ``peft`` (several LoRA adapters in PyTorch,
batches mixed by ``adapter_names``), ``peft-merged`` (LoRA merged into the weights, a graph exported per task),
``ort-adapters`` (one graph, LoRA weights in ``.onnx_adapter`` files).
"""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from peers import TASKS
from peers.ort_sessions import Feeds, GraphPerTask, by_task, opened, work_folder
from peers.torch_models import classifier, logits_of, randomise
from propetl.runtime.bench.messages import Load
from propetl.runtime.bench.worker import serve_standard_streams

RANK = 16  # on query and value: as many weights as an adapter of bottleneck 32
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
BATCH, SEQUENCE = 2, 8


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


class AdapterFiles:
    """One graph whose LoRA weights come from ONNX Runtime's adapter files."""

    def __init__(self, graph: Path, adapters: Mapping[str, Path], threads: int) -> None:
        import onnxruntime

        self._runtime = onnxruntime
        self._session = opened(graph, threads)
        self._adapters: dict[str, Any] = {}
        self._options: dict[str, Any] = {}
        for task, path in adapters.items():
            self._adapters[task] = onnxruntime.LoraAdapter()
            self._adapters[task].Load(str(path))
            self._options[task] = onnxruntime.RunOptions()
            self._options[task].add_active_adapter(self._adapters[task])

    def run(self, task: str, feeds: Feeds) -> np.ndarray:
        """Logits of one batch."""
        logits: np.ndarray = self._session.run(None, dict(feeds), self._options[task])[0]
        return logits

    def run_mixed(self, tasks: Sequence[str], feeds: Feeds) -> list[np.ndarray]:
        """One call for the rows of each task: an adapter serves a whole call."""
        return by_task(self, tasks, feeds)

    def adding_times(self, task: str, repeats: int) -> list[int]:
        """Not measured."""
        return []


def load(asked: Load) -> Any:
    """The runtime that ``asked`` names."""
    torch.set_num_threads(asked.threads)
    kind = asked.runtime
    if kind == "eager":
        return PlainModel(classifier(asked.source))
    if kind == "compiled":
        return PlainModel(torch.compile(classifier(asked.source), dynamic=False))
    if kind == "peft":
        return PeftModels(saved(peft_model(asked.source)))
    if kind == "peft-merged":
        return GraphPerTask(merged_graphs(asked.source), asked.threads)
    return AdapterFiles(*adapter_graph(asked.source), asked.threads)


def peft_model(source: str) -> Any:
    """A LoRA of random weights for each task over one backbone."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["query", "value"])
    model = get_peft_model(classifier(source), config, adapter_name=TASKS[0])
    for task in TASKS[1:]:
        model.add_adapter(task, config)
    randomise(model, "lora_")
    return model.eval()


def saved(model: Any) -> Any:
    """``model``, whose adapters stand in the work folder afterwards."""
    folder = work_folder() / "peft"
    if not folder.exists():
        model.save_pretrained(str(folder))
    return model


def merged_graphs(source: str) -> dict[str, Path]:
    """A graph for each task, its LoRA merged into the weights before it is exported."""
    folder = work_folder()
    paths = {task: folder / f"peft-merged-{task}.onnx" for task in TASKS}
    if all(path.exists() for path in paths.values()):
        return paths
    for task, path in paths.items():
        model = peft_model(source)
        model.set_adapter(task)
        merged = model.merge_and_unload(adapter_names=[task])
        export(Wrapped(merged), [*INPUTS], example(), path)
    return paths


class Wrapped(torch.nn.Module):
    """A classifier with its inputs by place, as the exporter wants them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        """Logits ``[batch, labels]``."""
        return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits


class WithWeights(torch.nn.Module):
    """A PEFT model whose LoRA weights are arguments, transposed as Olive writes them."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.model = Wrapped(model)
        self.owners = [model.get_submodule(name.removesuffix(".weight")) for name in names]
        for owner in self.owners:
            owner._parameters.pop("weight")  # a plain tensor takes its place, which the tracer follows

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any, *weights: Any) -> Any:
        """Logits ``[batch, labels]``."""
        for owner, weight in zip(self.owners, weights, strict=True):
            owner.weight = weight.T
        return self.model(input_ids, attention_mask, token_type_ids)


def adapter_graph(source: str) -> tuple[Path, dict[str, Path]]:
    """One graph that takes LoRA weights, and a file of them for each task, converted by Olive."""
    folder = work_folder()
    graph = folder / "ort-adapters.onnx"
    files = {task: folder / f"{task}.onnx_adapter" for task in TASKS}
    if graph.exists() and all(path.exists() for path in files.values()):
        return graph, files
    model = peft_model(source)
    convert(model, folder, files)
    names = [name for name, _ in model.named_parameters() if "lora_" in name and f".{TASKS[0]}." in name]
    model.set_adapter(TASKS[0])
    parameters = dict(model.named_parameters())
    weights = [parameters[name].detach().T.contiguous() for name in names]
    inputs = [name.replace(f".{TASKS[0]}.", ".") for name in names]
    staged = folder / "ort-adapters.partial.onnx"
    export(WithWeights(model, names), [*INPUTS, *inputs], (*example(), *weights), staged)
    give_defaults(staged, dict(zip(inputs, weights, strict=True)))
    staged.replace(graph)
    return graph, files


def convert(model: Any, folder: Path, files: Mapping[str, Path]) -> None:
    """Saves each adapter as PEFT does and lets Olive, in its own environment, make ONNX Runtime's file of it."""
    import os

    saved(model)
    for task, path in files.items():
        if path.exists():
            continue
        source = folder / "peft" / task
        command = [os.environ["PEERS_OLIVE"], "convert-adapters", "-a", source, "-o", path.with_suffix("")]
        subprocess.run([*map(str, command), "--adapter_format", "onnx_adapter"], check=True, capture_output=True)


def give_defaults(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Adds an initialiser for each weight: ONNX Runtime feeds adapters only to inputs that may stay unfed."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    for name, weight in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(weight.numpy(), name))
    onnx.save(model, path)


def example() -> tuple[torch.Tensor, ...]:
    """Token inputs to trace with."""
    ids = torch.randint(1000, 2000, (BATCH, SEQUENCE))
    return ids, torch.ones_like(ids), torch.zeros_like(ids)


def export(model: Any, names: Sequence[str], arguments: Sequence[torch.Tensor], path: Path) -> None:
    """A graph with free batch and sequence."""
    free = {name: {0: "batch", 1: "sequence"} for name in INPUTS}
    torch.onnx.export(
        model.eval(),
        tuple(arguments),
        str(path),
        input_names=list(names),
        output_names=["logits"],
        dynamic_axes={**free, "logits": {0: "batch"}},
        opset_version=18,
        dynamo=False,
    )


if __name__ == "__main__":
    serve_standard_streams(load)
