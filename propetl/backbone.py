"""Loading a backbone, and telling one from another by its weights."""

import contextlib
import hashlib
import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
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
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from propetl.bundle.format import BackboneInfo
from propetl.errors import BundleError, ConfigurationError
from propetl.families import Family, Kind, Projection, family_of

PACKAGE_SCHEME = "package:"

_CLASSES: dict[Kind, Any] = {
    "encoder": AutoModel,
    "encoder-decoder": AutoModelForSeq2SeqLM,
    "decoder": AutoModelForCausalLM,
}


@dataclass(frozen=True)
class Backbone:
    """A frozen pretrained transformer.

    Attributes:
        model: in float32, evaluation mode, no gradients: an encoder without a pooler, others with
            their language model head.
        info: name, fingerprint and sizes.
        family: where prototypes attach.
        pooler: ``weight`` and ``bias`` of its pretrained pooler; None where there is none.
        tokenizer_files: the tokenizer as files by name.
        pad_token_id: id that fills short rows.
    """

    model: PreTrainedModel
    info: BackboneInfo
    family: Family
    pooler: dict[str, Tensor] | None
    tokenizer_files: dict[str, bytes]
    pad_token_id: int

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The fast tokenizer, read back from :attr:`tokenizer_files` as a device will read it."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in self.tokenizer_files.items():
                Path(folder, name).write_bytes(content)
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
            return tokenizer


def load_backbone(name: str, revision: str | None = None) -> Backbone:
    """Loads a backbone and freezes it.

    Args:
        name: hub name, folder, or ``package:MODULE/FOLDER`` for weights that a Python package carries.
        revision: of the hub's repository.

    Raises:
        ConfigurationError: it cannot be found or read, or its family is not supported.
    """
    source = _source_of(name)
    try:
        config = AutoConfig.from_pretrained(source, revision=revision)
        family = family_of(config.model_type)
        model, missing = _load_model(source, revision, family)
        tokenizer = _load_tokenizer(source, revision)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # RuntimeError: sizes that differ
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigurationError(f"backbone {name!r} cannot be loaded: {reason}") from error
    pooler = _take_pooler(model, missing)
    model.requires_grad_(False).eval()
    info = BackboneInfo(
        name=name,
        revision=revision,
        family=family.name,
        fingerprint=fingerprint(model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        **_sizes(model, family),
    )
    pad = tokenizer.pad_token_id if family.kind == "decoder" else config.pad_token_id
    return Backbone(model, info, family, pooler, _files_of(tokenizer), pad or 0)


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
    }


def _width(model: PreTrainedModel, layer: str, place: Projection) -> int:
    """Outputs of a projection; GPT-2's ``Conv1D`` holds its matrix the other way round."""
    module = model.get_submodule(f"{layer}.{place.path}")
    outputs = cast(Tensor, module.weight).shape[0 if isinstance(module, nn.Linear) else 1]
    return outputs // place.parts


def load_backbone_of(info: BackboneInfo, name: str | None = None) -> Backbone:
    """The backbone that a bundle was trained on, checked by its fingerprint.

    Args:
        info: what the bundle says.
        name: where to look instead of the place recorded there.

    Raises:
        BundleError: the weights found are not the ones the bundle was trained on.
    """
    backbone = load_backbone(name or info.name, None if name else info.revision)
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


def _source_of(name: str) -> str:
    if not name.startswith(PACKAGE_SCHEME):
        return name
    module, _, folder = name.removeprefix(PACKAGE_SCHEME).partition("/")
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # no such parent package; no name at all
        found = None
    if found is None or found.origin is None:
        raise ConfigurationError(f"backbone {name!r}: the package {module!r} is not installed")
    return str(Path(found.origin).parent / folder)


def _load_tokenizer(source: str, revision: str | None) -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, revision=revision)
    # Without its files, transformers makes one that knows nothing but the special tokens.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError("it has no tokenizer (tokenizer.json is missing)")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # decoders have none; what stands at padding does not matter
    return tokenizer


def _load_model(source: str, revision: str | None, family: Family) -> tuple[PreTrainedModel, set[str]]:
    attention: dict[str, Any] = {"attn_implementation": "sdpa"} if family.attention_interface else {}
    with _no_progress_bar():
        model, loading = _CLASSES[family.kind].from_pretrained(
            source, revision=revision, dtype=torch.float32, output_loading_info=True, **attention
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


def _take_pooler(model: PreTrainedModel, missing: set[str]) -> dict[str, Tensor] | None:
    """Removes the pooler, which no linear head uses; keeps its weights if they were pretrained."""
    pooler = getattr(model, "pooler", None)
    if pooler is None:
        return None
    setattr(model, "pooler", None)  # noqa: B010 - the type of a module's attribute is not None's
    if any(key.startswith("pooler.") for key in missing):
        return None
    return {"weight": pooler.dense.weight.detach(), "bias": pooler.dense.bias.detach()}


def _files_of(tokenizer: PreTrainedTokenizerBase) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
