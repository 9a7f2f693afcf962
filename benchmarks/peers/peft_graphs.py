"""``python -m peers.peft_graphs KIND SOURCE``: graphs made from PEFT models, left in the work folder.

KIND is ``peft-merged`` (LoRA merged into the weights, a graph exported per task) or ``ort-adapters`` (one graph, LoRA
weights in ``.onnx_adapter`` files). What runs them needs neither PyTorch nor PEFT.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from peers import TASKS
from peers.ort_sessions import adapter_files, adapter_graph, merged_graphs, work_folder
from peers.torch_models import classifier, randomise

RANK = 16  # on query and value: as many weights as an adapter of bottleneck 32
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
BATCH, SEQUENCE = 2, 8


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


def make_merged(source: str) -> None:
    """A graph for each task, its LoRA merged into the weights before it is exported."""
    for task, path in merged_graphs().items():
        model = peft_model(source)
        model.set_adapter(task)
        merged = model.merge_and_unload(adapter_names=[task])
        export(Wrapped(merged), [*INPUTS], example(), path)


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


def make_adapters(source: str) -> None:
    """One graph that takes LoRA weights, and a file of them for each task, converted by Olive."""
    model = peft_model(source)
    convert(model, work_folder(), adapter_files())
    names = [name for name, _ in model.named_parameters() if "lora_" in name and f".{TASKS[0]}." in name]
    model.set_adapter(TASKS[0])
    parameters = dict(model.named_parameters())
    weights = [parameters[name].detach().T.contiguous() for name in names]
    inputs = [name.replace(f".{TASKS[0]}.", ".") for name in names]
    staged = work_folder() / "ort-adapters.partial.onnx"
    export(WithWeights(model, names), [*INPUTS, *inputs], (*example(), *weights), staged)
    give_defaults(staged, dict(zip(inputs, weights, strict=True)))
    staged.replace(adapter_graph())


def convert(model: Any, folder: Path, files: Mapping[str, Path]) -> None:
    """Saves each adapter as PEFT does and lets Olive, in its own environment, make ONNX Runtime's file of it."""
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
    {"peft-merged": make_merged, "ort-adapters": make_adapters}[sys.argv[1]](sys.argv[2])
