"""Loading a backbone, and telling one from another by its weights."""

import contextlib
import hashlib
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from propetl.backbone_files import folder_of, model_files, source_of
from propetl.backbone_tokenizer import checked_tokenizer, pad_token, settle_end, tokenizer_files
from propetl.bundle.format import BackboneInfo
from propetl.errors import BundleError, ConfigurationError
from propetl.families import Family, Kind, Projection, family_of

_CLASSES: dict[Kind, Any] = {
    "encoder": AutoModel,
    "encoder-decoder": AutoModelForSeq2SeqLM,
    "decoder": AutoModelForCausalLM,
}

# RuntimeError: sizes that differ; UnpicklingError: a pickled file that holds more than tensors.
_UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError)


@dataclass(frozen=True)
class Backbone:
    """A frozen pretrained transformer.

    Attributes:
        model: in float32, evaluation mode, no gradients: an encoder without a pooler, others with
            their language model head.
        info: name, fingerprint and sizes.
        family: where prototypes attach.
        pooler: ``weight`` and ``bias`` of its pretrained pooler; None where there is none.
        tokenizer_files: the tokenizer as files by name; see :mod:`propetl.backbone_tokenizer`.
        pad_token_id: id that fills short rows.
        end_token_id: id that ends an answer in text; None where there is none.
    """

    model: PreTrainedModel
    info: BackboneInfo
    family: Family
    pooler: dict[str, Tensor] | None
    tokenizer_files: dict[str, bytes]
    pad_token_id: int
    end_token_id: int | None

    def with_tokenizer(self, folder: Path) -> "Backbone":
        """The same with the tokenizer in ``folder``, such as a bundle's: the one at hand may have changed since."""
        return replace(self, tokenizer_files={path.name: path.read_bytes() for path in sorted(folder.iterdir())})


def load_backbone(name: str, revision: str | None = None, *, allow_pickle: bool = False) -> Backbone:
    """Loads a backbone and freezes it. No code that its folder holds is run.

    Args:
        name: hub name, folder, or ``package:MODULE/FOLDER`` for weights that a Python package carries.
        revision: of the hub's repository.
        allow_pickle: where there are no safetensors, read ``pytorch_model.bin``, tensors alone.

    Raises:
        ConfigurationError: it cannot be found or read, or its family is not supported.
    """
    source = source_of(name)
    try:
        with model_files(folder_of(source, revision, allow_pickle), allow_pickle) as folder:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            family = family_of(config.model_type)
            model, missing = _load_model(folder, family, allow_pickle)
        tokenizer = _load_tokenizer(source, revision, model)
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigurationError(f"backbone {name!r} cannot be loaded: {reason}") from error
    return backbone_of(model, tokenizer, family, name, revision, pretrained_pooler=not _are_of_pooler(missing))


def backbone_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    family: Family,
    name: str,
    revision: str | None = None,
    *,
    pretrained_pooler: bool = True,
) -> Backbone:
    """Freezes ``model``, takes its pooler off and describes it.

    Args:
        model: in float32; changed.
        tokenizer: its own, which was checked; its backend is changed.
        family: of the model.
        name: from which it can be loaded again.
        revision: of the hub's repository.
        pretrained_pooler: whether a pooler that is there was trained.
    """
    pooler = _take_pooler(model, pretrained_pooler)
    model.requires_grad_(False).eval()
    info = BackboneInfo(
        name=name,
        revision=revision,
        family=family.name,
        fingerprint=fingerprint(model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        **_sizes(model, family),
    )
    pad, end = pad_token(tokenizer, model.config, family), settle_end(tokenizer, model)
    return Backbone(model, info, family, pooler, tokenizer_files(tokenizer, pad, family.inputs), pad, end)


def _sizes(model: PreTrainedModel, family: Family) -> dict[str, Any]:
    """The sizes that :class:`BackboneInfo` holds, read off the modules."""
    hidden = model.config.hidden_size
    depths = [len(cast(nn.ModuleList, model.get_submodule(stack.layers))) for stack in family.stacks]
    projections = family.stacks[0].attentions[0].projections
    query, value = (_width(model, f"{family.stacks[0].layers}.0", projections[kind]) for kind in ("query", "value"))
    return {
        "hidden_size": hidden,
        "layers": depths[0],
        "decoder_layers": sum(depths[1:]),
        "query_size": None if query == hidden else query,
        "key_value_size": None if value == query else value,
        "ffn_size": _ffn_width(model, family),
    }


def _ffn_width(model: PreTrainedModel, family: Family) -> int | None:
    """Inputs of the FFNs' last projections; None where layers differ."""
    modules = [
        layer.get_submodule(stack.ffn_out)
        for stack in family.stacks
        for layer in cast(nn.ModuleList, model.get_submodule(stack.layers))
    ]
    widths = {cast(Tensor, module.weight).shape[1 if isinstance(module, nn.Linear) else 0] for module in modules}
    return widths.pop() if len(widths) == 1 else None


def _width(model: PreTrainedModel, layer: str, place: Projection) -> int:
    """Outputs of a projection; GPT-2's ``Conv1D`` holds its matrix the other way round."""
    module = model.get_submodule(f"{layer}.{place.path}")
    outputs = cast(Tensor, module.weight).shape[0 if isinstance(module, nn.Linear) else 1]
    return outputs // place.parts


def load_backbone_of(info: BackboneInfo, name: str | None = None, *, allow_pickle: bool = False) -> Backbone:
    """The backbone that a bundle was trained on, checked by its fingerprint.

    Args:
        info: what the bundle says.
        name: where to look instead of the place recorded there.
        allow_pickle: as for :func:`load_backbone`.

    Raises:
        BundleError: the weights found are not the ones the bundle was trained on.
    """
    backbone = load_backbone(name or info.name, None if name else info.revision, allow_pickle=allow_pickle)
    check_backbone(backbone, info)
    return backbone


def check_backbone(backbone: Backbone, info: BackboneInfo) -> None:
    """Refuses a backbone whose weights are not those that ``info`` describes.

    Raises:
        BundleError: naming both fingerprints.
    """
    if backbone.info.fingerprint != info.fingerprint:
        raise BundleError(
            f"backbone {backbone.info.name!r} has fingerprint {backbone.info.fingerprint[:12]}, but the bundle was "
            f"trained on {info.fingerprint[:12]} ({info.name}); pass the right one with --backbone"
        )


def fingerprint(model: nn.Module) -> str:
    """SHA-256 over names, shapes and float32 bytes of all weights, sorted by name; independent of the file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{list(values.shape)}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def _load_tokenizer(source: str, revision: str | None, model: PreTrainedModel) -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    return checked_tokenizer(tokenizer, model.get_input_embeddings())


def _load_model(folder: Path, family: Family, allow_pickle: bool) -> tuple[PreTrainedModel, set[str]]:
    attention: dict[str, Any] = {"attn_implementation": "sdpa"} if family.attention_interface else {}
    with _no_progress_bar(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")  # says nothing to a user
        model, loading = _CLASSES[family.kind].from_pretrained(
            folder,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=None if allow_pickle else True,  # None prefers them
            weights_only=True,
            **attention,
        )
    missing = set(loading["missing_keys"])
    lacking = sorted(key for key in missing if not key.startswith("pooler."))
    if lacking:
        raise ValueError(f"its weights lack {lacking[0]!r} and {len(lacking) - 1} more")
    return model, missing


@contextlib.contextmanager
def _no_progress_bar() -> Iterator[None]:
    """transformers draws a bar for every load, even of a few milliseconds; ours are drawn by who calls."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _are_of_pooler(missing: set[str]) -> bool:
    return any(key.startswith("pooler.") for key in missing)


def _take_pooler(model: PreTrainedModel, pretrained: bool) -> dict[str, Tensor] | None:
    """Removes the pooler, which no linear head uses; keeps its weights if they were pretrained."""
    pooler = getattr(model, "pooler", None)
    if pooler is None:
        return None
    setattr(model, "pooler", None)  # noqa: B010 - the type of a module's attribute is not None's
    if not pretrained:
        return None
    return {"weight": pooler.dense.weight.detach(), "bias": pooler.dense.bias.detach()}
