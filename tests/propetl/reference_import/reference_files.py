"""Checkpoints in the layout of the reference's encoder code, drawn at random, and what its equations make of them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from propetl.backbone import load_backbone
from tests.propetl.plain_transformer import Extra, PlainEncoder
from tests.tiny_backbone import tiny_backbone

HIDDEN, LAYERS, NAME = 24, 3, "rte"

Settings = dict[str, Any]

ADAPTER: Settings = {
    "original_ln_before": True,
    "original_ln_after": True,
    "residual_before_ln": True,
    "adapter_residual_before_ln": False,
    "ln_before": False,
    "ln_after": False,
    "mh_adapter": False,
    "output_adapter": True,
    "non_linearity": "relu",
    "reduction_factor": 4,
    "inv_adapter": None,
    "inv_adapter_reduction_factor": None,
    "cross_adapter": False,
    "leave_out": [],
    "is_parallel": False,
    "scaling": 1.0,
    "use_gating": False,
    "phm_layer": False,
    "init_weights": "bert",
}
LORA: Settings = {
    "architecture": "lora",
    "selfattn_lora": True,
    "intermediate_lora": False,
    "output_lora": False,
    "share_adapter": True,
    "r": 4,
    "alpha": 6,
    "dropout": 0.0,
    "attn_matrices": ["q", "v"],
    "composition_mode": "add",
    "init_weights": "lora",
    "use_gating": False,
}
PREFIX: Settings = {
    "architecture": "prefix_tuning",
    "encoder_prefix": True,
    "cross_prefix": True,
    "leave_out": [],
    "share_adapter": True,
    "sparsity": 0.3,
    "flat": False,
    "prefix_length": 5,
    "bottleneck_size": 8,
    "non_linearity": "tanh",
    "dropout": 0.0,
    "use_gating": False,
    "shared_gating": True,
}
HEAD: Settings = {
    "head_type": "classification",
    "num_labels": 2,
    "layers": 2,
    "activation_function": "tanh",
    "label2id": {"entailment": 0, "not_entailment": 1},
    "use_pooler": False,
    "bias": True,
}


@dataclass
class Written:
    """Files of one task before they are written.

    Attributes:
        folder: where :meth:`save` puts them.
        config: the method's settings.
        weights: ``pytorch_adapter.bin``.
        shared: whether there is one prototype, and a mask file.
        masks: ``adapter_mask.bin``.
        head_config: the head's settings.
        head: ``pytorch_model_head.bin``.
        extras: what each layer gets by the reference's equations.
    """

    folder: Path
    config: Settings
    shared: bool
    weights: dict[str, Tensor] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)
    head_config: Settings = field(default_factory=lambda: dict(HEAD))
    head: dict[str, Tensor] = field(default_factory=dict)
    extras: list[Extra] = field(default_factory=list)

    def save(self) -> Path:
        """Writes them as ``save_adapter`` and ``save_head`` of the reference do."""
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {"hidden_size": HIDDEN, "model_class": "RobertaAdapterModel", "model_type": "roberta", "name": NAME}
        about |= {"model_name": "roberta-base", "version": "3.1.0"}
        self._json("adapter_config.json", about | {"config": self.config})
        self._json("head_config.json", about | {"config": self.head_config})
        torch.save(self.weights, self.folder / "pytorch_adapter.bin")
        torch.save(self.head, self.folder / "pytorch_model_head.bin")
        if self.shared:
            torch.save(self.masks, self.folder / "adapter_mask.bin")
        return self.folder

    def _json(self, name: str, value: Settings) -> None:
        (self.folder / name).write_text(json.dumps(value, indent=2, sort_keys=True))

    def logits(self, model, inputs: dict[str, Tensor]) -> Tensor:
        """The reference's equations in float64: its encoder with the task's method, then its head."""
        first = PlainEncoder(model, "roberta")(inputs, self.extras)[:, 0]
        if f"heads.{NAME}.4.weight" not in self.head:
            return self._linear(first, 1)
        return self._linear(torch.tanh(self._linear(first, 1)), 4)

    def _linear(self, x: Tensor, number: int) -> Tensor:
        return x @ self.head[f"heads.{NAME}.{number}.weight"].double().T + self.head[f"heads.{NAME}.{number}.bias"]


def backbone_in(folder: Path):
    """A tiny random RoBERTa."""
    return load_backbone(str(tiny_backbone(folder / "backbone", "roberta", hidden=HIDDEN, layers=LAYERS)))


def adapter_files(folder: Path, *, shared: bool = True, houlsby: bool = False, kept: float = 0.5) -> Written:
    """An adapter of width 6, masks transposed against the weights."""
    random = torch.Generator().manual_seed(1)
    files = _with_head(Written(folder, ADAPTER | {"mh_adapter": houlsby}, shared), random)
    sites = {"attention": "attention.output", "ffn": "output"} if houlsby else {"ffn": "output"}
    width = HIDDEN // ADAPTER["reduction_factor"]
    own = _adapter(random, width)
    for layer in range(LAYERS):
        extra = Extra(adapters={}, activation=torch.relu)
        for site, path in sites.items():
            down, down_bias, up, up_bias = own if shared else _adapter(random, width)
            place = f"roberta.encoder.layer.{layer}.{path}"
            keys = ("adapter_down.0.weight", "adapter_down.0.bias", "adapter_up.weight", "adapter_up.bias")
            for key, value in zip(keys, (down, down_bias, up, up_bias), strict=True):
                files.weights[f"{place}.adapters.{NAME}.{key}"] = value
            if shared:
                masks = [_bools(random, (HIDDEN, width), kept), _bools(random, (width, HIDDEN), kept)]
                files.masks[f"{place}.adapters_mask.{NAME}.down_mask"] = masks[0]
                files.masks[f"{place}.adapters_mask.{NAME}.up_mask"] = masks[1]
                down, up = down * masks[0].T, up * masks[1].T
            extra.adapters[site] = tuple(part.double() for part in (down, down_bias, up, up_bias))
        files.extras.append(extra)
    return files


def lora_files(folder: Path, *, shared: bool = True, kept: float = 0.1) -> Written:
    """LoRA of rank 4 on query and value."""
    random = torch.Generator().manual_seed(2)
    config = LORA | {"share_adapter": shared}
    files = _with_head(Written(folder, config, shared), random)
    own = {target: _lora(random) for target in ("query", "value")}
    for layer in range(LAYERS):
        extra = Extra(lora={})
        for target in ("query", "value"):
            place = f"roberta.encoder.layer.{layer}.attention.self.{target}"
            a, b = own[target] if shared else _lora(random)
            files.weights |= {f"{place}.loras.{NAME}.lora_A": a, f"{place}.loras.{NAME}.lora_B": b}
            if shared:
                masks = [_bools(random, a.shape, kept), _bools(random, b.shape, kept)]
                files.masks[f"{place}.adapters_mask.{NAME}.lora_A_mask"] = masks[0]
                files.masks[f"{place}.adapters_mask.{NAME}.lora_B_mask"] = masks[1]
                a, b = a * masks[0], b * masks[1]
            extra.lora[target] = (a.double(), b.double(), LORA["alpha"] / LORA["r"])
        files.extras.append(extra)
    return files


def prefix_files(folder: Path, *, shared: bool = True) -> Written:
    """A prefix of length 5 through an MLP of width 8; its scores stand among the weights, the mask file is empty.

    The reference keeps one module in two places: beside the encoder, and as the ``pool`` of every layer that reads it.
    A state dict names the tensors of both, the layers' first.
    """
    random = torch.Generator().manual_seed(3)
    config = PREFIX | {"share_adapter": shared}
    files = _with_head(Written(folder, config, shared), random)
    place = f"roberta.prefix_tuning.prefix_tunings.{NAME}.self_prefix"
    inner, columns = PREFIX["bottleneck_size"], 2 * HIDDEN * (1 if shared else LAYERS)
    files.weights = {
        f"{place}.wte.weight": _normal(random, (PREFIX["prefix_length"], HIDDEN)),
        f"{place}.control_trans.0.weight": _normal(random, (inner, HIDDEN)),
        f"{place}.control_trans.0.bias": _normal(random, (inner,)),
        f"{place}.control_trans.2.weight": _normal(random, (columns, inner)),
        f"{place}.control_trans.2.bias": _normal(random, (columns,)),
    }
    wte, enter, enter_bias, leave, leave_bias = (value.double() for value in files.weights.values())
    made = torch.tanh(wte @ enter.T + enter_bias) @ leave.T + leave_bias
    if not shared:
        files.extras = [Extra(prefix=part) for part in made.split(2 * HIDDEN, dim=1)]
        return _as_pools_of_layers(files)
    scores = _normal(random, (LAYERS, PREFIX["prefix_length"], 2 * HIDDEN))
    files.weights[f"{place}.adapters_mask.adapters_mask"] = scores
    for layer in scores:
        order = layer.abs().flatten().argsort()
        mask = torch.ones_like(order)
        mask[order[: int((1 - PREFIX["sparsity"]) * len(order))]] = 0
        files.extras.append(Extra(prefix=made * mask.view_as(layer)))
    return _as_pools_of_layers(files)


def _as_pools_of_layers(files: Written) -> Written:
    pools = [f"roberta.encoder.layer.{layer}.attention.self.prefix_tuning.pool" for layer in range(LAYERS)]
    own = files.weights
    copies = {name.replace("roberta.prefix_tuning", pool): own[name].clone() for pool in pools for name in own}
    files.weights = {**copies, **own}
    return files


def _with_head(files: Written, random: torch.Generator) -> Written:
    files.head = {
        f"heads.{NAME}.1.weight": _normal(random, (HIDDEN, HIDDEN)),
        f"heads.{NAME}.1.bias": _normal(random, (HIDDEN,)),
        f"heads.{NAME}.4.weight": _normal(random, (2, HIDDEN)),
        f"heads.{NAME}.4.bias": _normal(random, (2,)),
    }
    return files


def _adapter(random: torch.Generator, width: int) -> tuple[Tensor, ...]:
    shapes = ((width, HIDDEN), (width,), (HIDDEN, width), (HIDDEN,))
    return tuple(_normal(random, shape) for shape in shapes)


def _lora(random: torch.Generator) -> tuple[Tensor, Tensor]:
    return _normal(random, (LORA["r"], HIDDEN)), _normal(random, (HIDDEN, LORA["r"]))


def _normal(random: torch.Generator, shape) -> Tensor:
    return 0.3 * torch.randn(shape, generator=random)


def _bools(random: torch.Generator, shape, kept: float) -> Tensor:
    """As the reference counts: ``int((1 - k) n)`` entries are off."""
    order = torch.rand(shape, generator=random).flatten().argsort()
    mask = torch.ones(len(order), dtype=torch.bool)
    mask[order[: int((1 - kept) * len(order))]] = False
    return mask.view(shape)
