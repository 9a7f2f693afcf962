"""Adapter, LoRA and prefix of the reference's encoder files."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from propetl.activations import ACTIVATIONS
from propetl.backbone import Backbone
from propetl.errors import BundleError
from propetl.prototypes.adapter.specification import Activation, Site
from propetl.prototypes.spec import PrototypeConfig
from propetl.reference_import.checkpoint import Checkpoint
from propetl.reference_import.encoder_files import CONFIG_FILE, EncoderFiles, refuse_unless
from propetl.reference_import.masks import as_mask, packed, sparsity_of
from propetl.reference_import.method import ImportedMethod, floats, stacked

Settings = dict[str, Any]
Take = Callable[[str], Tensor]

_ADAPTER_SETTINGS: Settings = {
    "original_ln_before": True,
    "original_ln_after": True,
    "residual_before_ln": True,
    "ln_before": False,
    "ln_after": False,
    "is_parallel": False,
    "scaling": 1.0,
    "use_gating": False,
    "phm_layer": False,
    "inv_adapter": None,
    "output_adapter": True,
    "leave_out": [],
}
_LORA_SETTINGS: Settings = {
    "selfattn_lora": True,
    "intermediate_lora": False,
    "output_lora": False,
    "composition_mode": "add",
    "use_gating": False,
    "leave_out": [],
}
_PREFIX_SETTINGS: Settings = {"flat": False, "use_gating": False, "leave_out": []}

_ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "tanh": "tanh",
    "swish": "silu",
    "silu": "silu",
}
_TARGETS = {"q": "query", "k": "key", "v": "value"}
_PLACES: dict[Site, str] = {"attention": "attention.output", "ffn": "output"}


def imported_method(files: EncoderFiles, backbone: Backbone, sparsity: float | None) -> ImportedMethod:
    """The method that ``files`` hold.

    Args:
        files: of one task.
        backbone: that it was trained on.
        sparsity: of masks that stand there as scores; None takes what the file says.

    Raises:
        BundleError: a tensor is missing or does not fit, or a setting cannot be imported.
    """
    return _READERS[_architecture(files)](files, backbone, sparsity)


def _architecture(files: EncoderFiles) -> str:
    found = files.setting("architecture") or "bottleneck"
    if found not in _READERS:
        raise BundleError(
            f"{files.folder / CONFIG_FILE}: architecture {found!r} cannot be imported; "
            f"known: {', '.join(_READERS)} (adapters are called bottleneck there, or nothing)"
        )
    return str(found)


def _adapter(files: EncoderFiles, backbone: Backbone, sparsity: float | None) -> ImportedMethod:
    refuse_unless(files, _ADAPTER_SETTINGS)
    sites: tuple[Site, ...] = ("attention", "ffn") if files.setting("mh_adapter") else ("ffn",)
    places = [f"{files.layers}.{layer}.{_PLACES[site]}" for layer in range(backbone.info.layers) for site in sites]
    keys = {
        "down.weight": "adapter_down.0.weight",
        "down.bias": "adapter_down.0.bias",
        "up.weight": "adapter_up.weight",
        "up.bias": "adapter_up.bias",
    }
    names = {tensor: [f"{place}.adapters.{files.name}.{key}" for place in places] for tensor, key in keys.items()}
    # The reference multiplies by the mask's transpose.
    masks = {
        f"{part}.weight": [f"{place}.adapters_mask.{files.name}.{part}_mask" for place in places]
        for part in ("down", "up")
    }
    width = files.weights.take(names["down.weight"][0]).shape[0]
    settings: Settings = {"method": "adapter", "bottleneck": width, "sites": sites, "activation": _activation(files)}
    return _from_names(files, settings, names, masks, sparsity, transposed=True)


def _lora(files: EncoderFiles, backbone: Backbone, sparsity: float | None) -> ImportedMethod:
    refuse_unless(files, _LORA_SETTINGS)
    targets = tuple(_TARGETS[letter] for letter in files.setting("attn_matrices", ["q", "v"]))
    names: dict[str, list[str]] = {}
    masks: dict[str, list[str]] = {}
    for target in targets:
        places = [f"{files.layers}.{layer}.attention.self.{target}" for layer in range(backbone.info.layers)]
        for part in ("a", "b"):
            matrix = f"lora_{part.upper()}"
            names[f"{target}.{part}"] = [f"{place}.loras.{files.name}.{matrix}" for place in places]
            masks[f"{target}.{part}"] = [f"{place}.adapters_mask.{files.name}.{matrix}_mask" for place in places]
    rank = files.weights.take(names[f"{targets[0]}.a"][0]).shape[0]
    settings: Settings = {"method": "lora", "rank": rank, "alpha": float(files.setting("alpha", 8)), "targets": targets}
    return _from_names(files, settings, names, masks, sparsity, transposed=False)


def _from_names(
    files: EncoderFiles,
    settings: Settings,
    names: dict[str, list[str]],
    mask_names: dict[str, list[str]],
    sparsity: float | None,
    *,
    transposed: bool,
) -> ImportedMethod:
    """From the names of each tensor, and of each mask, at every slot."""
    if files.masks is None:
        weights = {tensor: [files.weights.take(name) for name in slots] for tensor, slots in names.items()}
        return ImportedMethod(PrototypeConfig(sharing="unshared", **settings), weights=stacked(weights))
    prototype = {tensor: files.weights.take_equal(slots) for tensor, slots in names.items()}
    masks = {
        tensor: packed([_mask(files.masks, name, prototype[tensor], sparsity, transposed=transposed) for name in slots])
        for tensor, slots in mask_names.items()
    }
    sizes = {tensor: prototype[tensor].numel() for tensor in masks}
    kept = sparsity_of(masks, sizes, str(files.masks.source))
    return ImportedMethod(PrototypeConfig(sparsity=kept, **settings), floats(prototype), masks)


def _mask(masks: Checkpoint, name: str, weight: Tensor, sparsity: float | None, *, transposed: bool) -> Tensor:
    """Scores stand in the mask file only where the reference keeps every weight."""
    rows, columns = weight.shape
    found = as_mask(masks.take(name, (columns, rows) if transposed else (rows, columns)), sparsity or 1.0)
    return found.T if transposed else found


def _prefix(files: EncoderFiles, backbone: Backbone, sparsity: float | None) -> ImportedMethod:
    refuse_unless(files, _PREFIX_SETTINGS)
    layers, hidden = backbone.info.layers, backbone.info.hidden_size
    place, *copies = _prefix_places(files)

    def take(name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """The tensor, which layers repeat."""
        files.weights.take(name, shape)
        return files.weights.take_equal([name, *(name.replace(place, copy) for copy in copies)])

    scores = f"{place}.adapters_mask.adapters_mask"
    made = _reparametrised(take, place, ACTIVATIONS[_activation(files)])  # [P, columns]
    length, width = made.shape
    settings: Settings = {
        "method": "prefix",
        "prefix_length": length,
        "prefix_hidden": take(f"{place}.control_trans.0.bias").shape[0],
    }
    if scores not in files.weights:
        if width != layers * 2 * hidden:
            raise BundleError(f"{files.weights.source}: a prefix of {width} columns, expected {layers * 2 * hidden}")
        own = made.view(length, layers, 2 * hidden).transpose(0, 1)  # [layers, P, 2 * hidden]
        return ImportedMethod(PrototypeConfig(sharing="unshared", **settings), weights=floats({"prefix": own}))
    kept = sparsity or float(files.setting("sparsity", 1.0))
    found = take(scores, (layers, length, 2 * hidden))
    masks = {"prefix": packed([as_mask(layer, kept) for layer in found])}
    return ImportedMethod(PrototypeConfig(sparsity=kept, **settings), floats({"prefix": made}), masks)


def _prefix_places(files: EncoderFiles) -> list[str]:
    """Paths of the prefix, which all layers share: beside the encoder, and once more in each layer that reads it."""
    end = f".prefix_tunings.{files.name}.self_prefix"
    names = [name for name in files.weights.tensors if name.endswith(f"{end}.wte.weight")]
    if not names:
        raise BundleError(f"{files.weights.source}: no prefix of {files.name!r} (…{end}.wte.weight) is in it")
    return [name.removesuffix(".wte.weight") for name in names]


def _reparametrised(take: Take, place: str, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """What the MLP makes of its embedding: ``[P, columns]``; a bundle keeps the result alone."""
    inner = torch.nn.functional.linear(
        take(f"{place}.wte.weight"), take(f"{place}.control_trans.0.weight"), take(f"{place}.control_trans.0.bias")
    )
    return torch.nn.functional.linear(
        activation(inner), take(f"{place}.control_trans.2.weight"), take(f"{place}.control_trans.2.bias")
    )


def _activation(files: EncoderFiles) -> Activation:
    found = str(files.setting("non_linearity")).lower()
    if found not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise BundleError(f"{files.folder / CONFIG_FILE}: non_linearity {found!r} cannot be imported; known: {known}")
    return _ACTIVATIONS[found]


_READERS = {"bottleneck": _adapter, "lora": _lora, "prefix_tuning": _prefix}
