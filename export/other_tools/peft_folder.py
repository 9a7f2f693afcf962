"""A task's folded LoRA as a PEFT adapter folder, which ``PeftModel.from_pretrained`` loads.

Written without PEFT: the folder is a JSON file and a safetensors file, whose keys are the parameters' names in the
wrapped model (``base_model.model.…``), without the adapter's name.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from transformers.pytorch_utils import Conv1D

from propetl.backbone_files import PACKAGE_SCHEME
from propetl.bundle.format import BackboneInfo, BundleInfo
from propetl.errors import ConfigurationError
from propetl.export.other_tools.folded_weights import folded_weights
from propetl.export.other_tools.peft_heads import PeftHead
from propetl.families import Attention, Projection
from propetl.files import json_bytes
from propetl.model import ProPETLModel
from propetl.task import TaskSpec

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"

_WRAPPED = "base_model.model."


def check_exportable(info: BundleInfo, tasks: Iterable[str]) -> None:
    """Refuses what PEFT's LoRA cannot express.

    Raises:
        ConfigurationError: another method than LoRA, or a family whose heads are not known.
    """
    if not info.prototype.specification.low_rank_pairs:
        raise ConfigurationError(
            f"form peft is for LoRA, whose layout PEFT has; this bundle is {info.prototype.method}"
        )
    for task in tasks:
        info.tasks[task].kind.peft_head(info.backbone.family, info.head)


def write_peft_folder(folder: Path, model: ProPETLModel, task: str) -> None:
    """Writes the adapter of ``task`` into ``folder``, which is there and empty."""
    head = model.infos[task].kind.peft_head(model.backbone.family.name, model.head_kind)
    tensors = _lora_tensors(model, task) | _head_tensors(model, task, head)
    (folder / WEIGHTS_FILE).write_bytes(save(tensors, metadata={"format": "pt"}))
    (folder / CONFIG_FILE).write_bytes(json_bytes(_config(model, head)))
    card = _card(task, model.infos[task], model.backbone.info, head)
    (folder / CARD_FILE).write_text(card, "utf-8")


def _lora_tensors(model: ProPETLModel, task: str) -> dict[str, NDArray[np.float32]]:
    """A as ``[rank, in]`` and B as ``[out, rank]`` of every module."""
    weights = folded_weights(model, task)
    tensors: dict[str, NDArray[np.float32]] = {}
    for slot, (at, attention) in enumerate(_attentions(model)):
        here = {name: weight[slot] for name, weight in weights.items()}
        for path, targets in attention.modules(model.config.targets).items():
            a, b = _pair_of_module(here, targets)
            tensors |= {f"{_WRAPPED}{at}.{path}.lora_A.weight": a, f"{_WRAPPED}{at}.{path}.lora_B.weight": b}
    return tensors


def _attentions(model: ProPETLModel) -> Iterator[tuple[str, Attention]]:
    """Path of the layer, and the attention, of each slot: stack by stack, layer by layer."""
    base = "" if model.backbone.family.generates else f"{model.network.base_model_prefix}."
    for stack, (layers, _) in zip(model.backbone.family.stacks, model.layout.stacks, strict=True):
        for layer in range(layers):
            for attention in stack.attentions:
                yield f"{base}{stack.layers}.{layer}", attention


def _pair_of_module(
    weights: Mapping[str, NDArray[np.float32]], targets: Mapping[str, Projection]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A and B of one module.

    A module that makes query, key and value at once (GPT-2's) has one pair, of as many ranks as its targets have
    together: the A stand on one another, and each B in its own ranks and outputs, with zeros around.
    """
    down = np.concatenate([weights[f"{target}.a"] for target in targets])  # [ranks, in]
    if all(projection.parts == 1 for projection in targets.values()):
        (target,) = targets
        return down, weights[f"{target}.b"]
    (parts,) = {projection.parts for projection in targets.values()}
    outputs, rank = weights[f"{next(iter(targets))}.b"].shape
    up = np.zeros((parts * outputs, len(targets) * rank), np.float32)
    for place, (target, projection) in enumerate(targets.items()):
        rows = slice(projection.part * outputs, (projection.part + 1) * outputs)
        up[rows, place * rank : (place + 1) * rank] = weights[f"{target}.b"]
    return down, up


def _head_tensors(model: ProPETLModel, task: str, head: PeftHead) -> dict[str, NDArray[np.float32]]:
    tensors = model.head_tensors(task)
    return {_WRAPPED + head.path_of(name): value.detach().float().numpy() for name, value in tensors.items()}


def _config(model: ProPETLModel, head: PeftHead) -> dict[str, Any]:
    config, backbone = model.config, model.backbone.info
    modules = [attention.modules(config.targets) for _, attention in _attentions(model)]
    fused = max(len(targets) for here in modules for targets in here.values())  # PEFT scales by alpha / ranks
    alpha = config.alpha * fused
    return {
        "peft_type": "LORA",
        "task_type": head.task_type,
        "base_model_name_or_path": _loadable_name(backbone),
        "revision": backbone.revision,
        "inference_mode": True,
        "r": config.rank * fused,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": _is_transposed(model),
        "target_modules": list(dict.fromkeys(path for here in modules for path in here)),
        "modules_to_save": list(head.saved) or None,
    }


def _is_transposed(model: ProPETLModel) -> bool:
    """Whether the projections keep their matrices as ``[in, out]``, as GPT-2's do."""
    stack = model.backbone.family.stacks[0]
    layer = model.network.get_submodule(f"{stack.layers}.0")
    path = stack.attentions[0].projections[model.config.targets[0]].path
    return isinstance(layer.get_submodule(path), Conv1D)


def _loadable_name(backbone: BackboneInfo) -> str | None:
    """What transformers loads it by; None for weights inside a Python package, which only this project finds."""
    return None if backbone.name.startswith(PACKAGE_SCHEME) else backbone.name


def _card(task: str, info: TaskSpec, backbone: BackboneInfo, head: PeftHead) -> str:
    """The model card: how to load the folder, and what it answers."""
    base = _loadable_name(backbone)
    metadata = {"library_name": "peft", "tags": ["propetl", "lora"]} | ({"base_model": base} if base else {})
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in metadata.items()]
    return f"""\
---
{chr(10).join(lines)}
---

# {task}

LoRA of one task, with its binary masks folded into the weights. Backbone: `{backbone.name}` \
(fingerprint {backbone.fingerprint[:12]}).

```python
from peft import PeftModel
from transformers import AutoTokenizer, {head.model_class}

tokenizer = AutoTokenizer.from_pretrained("PATH OF THIS FOLDER")
base = {head.model_class}.from_pretrained({json.dumps(base or "PATH OF THE BACKBONE")}{info.kind.load_arguments(info)})
model = PeftModel.from_pretrained(base, "PATH OF THIS FOLDER").eval()
inputs = tokenizer({info.kind.tokenizer_arguments(info)}, truncation=True, return_tensors="pt")
{info.kind.use(info, head)}
```

{info.kind.meaning(info)}
"""
