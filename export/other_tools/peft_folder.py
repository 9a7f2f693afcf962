"""A task's folded LoRA as a PEFT adapter folder, which ``PeftModel.from_pretrained`` loads.

Written without PEFT: the folder is a JSON file and a safetensors file, whose keys are the parameters' names in the
wrapped model (``base_model.model.…``), without the adapter's name.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from propetl.backbone import PACKAGE_SCHEME
from propetl.bundle.format import BackboneInfo, TaskInfo
from propetl.errors import ConfigurationError
from propetl.export.other_tools.folded_weights import folded_weights
from propetl.export.other_tools.peft_heads import SEQUENCE, PeftHead, peft_head
from propetl.files import json_bytes
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"

_WRAPPED = "base_model.model."


def check_exportable(family: str, head: str, config: PrototypeConfig) -> None:
    """Refuses what PEFT's LoRA cannot express.

    Raises:
        ConfigurationError: another method than LoRA, or a family whose heads are not known.
    """
    if config.method != "lora":
        raise ConfigurationError(f"form peft is for LoRA, whose layout PEFT has; this bundle is {config.method}")
    peft_head(family, head)


def write_peft_folder(folder: Path, model: ProPETLModel, task: str) -> None:
    """Writes the adapter of ``task`` into ``folder``, which is there and empty."""
    head = peft_head(model.backbone.family.name, model.head_kind)
    tensors = _lora_tensors(model, task) | _head_tensors(model, task, head)
    (folder / WEIGHTS_FILE).write_bytes(save(tensors, metadata={"format": "pt"}))
    (folder / CONFIG_FILE).write_bytes(json_bytes(_config(model, head)))
    card = _card(task, model.infos[task], model.backbone.info, head)
    (folder / CARD_FILE).write_text(card, "utf-8")


def _lora_tensors(model: ProPETLModel, task: str) -> dict[str, NDArray[np.float32]]:
    """A as ``[rank, in]`` and B as ``[out, rank]`` of every slot: PEFT's shapes are the prototype's."""
    weights = folded_weights(model, task)
    return {
        f"{_WRAPPED}{path}.lora_{part.upper()}.weight": weights[f"{target}.{part}"][slot]
        for slot, projections in enumerate(_projections(model))
        for target, path in projections.items()
        for part in ("a", "b")
    }


def _projections(model: ProPETLModel) -> Iterator[dict[str, str]]:
    """Paths of the projections with a LoRA, by target, in each slot: stack by stack, layer by layer."""
    base = "" if model.backbone.family.generates else f"{model.network.base_model_prefix}."
    for stack, (layers, _) in zip(model.backbone.family.stacks, model.layout.stacks, strict=True):
        for layer in range(layers):
            for attention in stack.attentions:
                paths = attention.projections
                yield {target: f"{base}{stack.layers}.{layer}.{paths[target].path}" for target in model.config.targets}


def _head_tensors(model: ProPETLModel, task: str, head: PeftHead) -> dict[str, NDArray[np.float32]]:
    tensors = model.head_tensors(task)
    return {_WRAPPED + head.path_of(name): value.detach().float().numpy() for name, value in tensors.items()}


def _config(model: ProPETLModel, head: PeftHead) -> dict[str, Any]:
    config, backbone = model.config, model.backbone.info
    attentions = [attention for stack in model.backbone.family.stacks for attention in stack.attentions]
    targets = [attention.projections[target].path for target in config.targets for attention in attentions]
    return {
        "peft_type": "LORA",
        "task_type": head.task_type,
        "base_model_name_or_path": _loadable_name(backbone),
        "revision": backbone.revision,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": int(config.alpha) if config.alpha == int(config.alpha) else config.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": list(dict.fromkeys(targets)),
        "modules_to_save": list(head.saved) or None,
    }


def _loadable_name(backbone: BackboneInfo) -> str | None:
    """What transformers loads it by; None for weights inside a Python package, which only this project finds."""
    return None if backbone.name.startswith(PACKAGE_SCHEME) else backbone.name


def _card(task: str, info: TaskInfo, backbone: BackboneInfo, head: PeftHead) -> str:
    """The model card: how to load the folder, and what it answers."""
    base = _loadable_name(backbone)
    metadata = {"library_name": "peft", "tags": ["propetl", "lora"]} | ({"base_model": base} if base else {})
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in metadata.items()]
    width = "" if info.text is not None else f", num_labels={info.outputs}"
    return f"""\
---
{chr(10).join(lines)}
---

# {task}

LoRA of one task, with its binary masks folded into the weights. Backbone: `{backbone.name}` \
(fingerprint {backbone.fingerprint[:12]}).

```python
from peft import PeftModel
from transformers import {head.model_class}

base = {head.model_class}.from_pretrained({json.dumps(base or "PATH OF THE BACKBONE")}{width})
model = PeftModel.from_pretrained(base, "PATH OF THIS FOLDER").eval()
{_use(info, head)}
```

{_answers(info)}
"""


def _use(info: TaskInfo, head: PeftHead) -> str:
    if info.text is not None:
        beams = f"num_beams={info.text.num_beams}, max_new_tokens={info.text.max_target_length}"
        return f"answer = model.generate(**inputs, {beams})"
    first = "" if head.task_type == SEQUENCE else "[:, 0]  # the first token's are the task's"
    return f"logits = model(**inputs).logits{first}"


def _answers(info: TaskInfo) -> str:
    if info.text is not None:
        words = f" Answers: {json.dumps(info.text.words, ensure_ascii=False)}." if info.text.words else ""
        return f"Prompt: {json.dumps(info.text.prompt, ensure_ascii=False)}.{words}"
    labels = json.dumps(info.labels, ensure_ascii=False) if info.labels else "a regression: one value"
    return f"Labels, in the order of the logits: {labels}."
