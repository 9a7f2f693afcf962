"""A transformers model in memory with a prototype, for a training loop of one's own."""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from propetl.backbone import Backbone, backbone_of
from propetl.backbone_tokenizer import checked_tokenizer
from propetl.bundle import Bundle, read_bundle, write_bundle
from propetl.bundle.tensors import Arrays
from propetl.data.in_memory import rows_of
from propetl.data.own_task import kind_of, own_task
from propetl.data.tokenise import collate_with, encode_task_rows
from propetl.errors import ConfigurationError, TaskError
from propetl.families import Family, family_of
from propetl.harvest import bundle_contents
from propetl.lengths import check_lengths
from propetl.model import ProPETLModel, TaskOutput
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.rows import Text
from propetl.task import TaskSpec
from propetl.training.config_file import prototype_from
from propetl.training.optimizer import parameter_groups
from propetl.training.tasks import settled, tokenizer_of

SAMPLES = 4
"""Rows of each task that a bundle keeps, from which export makes its golden rows."""


def attach(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prototype: str | Mapping[str, Any] | PrototypeConfig = "adapter",
    *,
    head: str = "linear",
    max_length: int = 128,
    seed: int = 42,
    name: str | None = None,
) -> "Attached":
    """Puts a prototype into a transformers model.

    The modules are copied and the parameters shared and frozen: ``model`` itself stays as it is, but for
    ``requires_grad``.

    Args:
        model: in float32, of a family that is known here: an encoder, an encoder-decoder or a causal language model;
            of a model with a head for classes, its encoder is taken.
        tokenizer: its fast tokenizer.
        prototype: a method, or the keys of ``prototype`` in a configuration.
        head: ``linear``, or ``own`` as the family's own classification head.
        max_length: tokens to which texts are truncated.
        seed: of the initial prototype, masks and heads.
        name: from which an export loads the same weights again; None for where transformers loaded them from.

    Raises:
        ConfigurationError: the model, its tokenizer or the prototype cannot be used.
    """
    if not isinstance(prototype, PrototypeConfig):
        prototype = prototype_from({"method": prototype} if isinstance(prototype, str) else prototype)
    backbone = _backbone(model, tokenizer, name or model.name_or_path or "in-memory")
    check_lengths(backbone, max_length, {})
    return Attached(ProPETLModel(backbone, prototype, head, seed=seed), max_length)


class Attached(nn.Module):
    """A model with a prototype, and masks and a head for each task that was added.

    Its loss is the one that ``propetl train`` minimises. Made by :func:`attach`.
    """

    accepts_loss_kwargs = False  # transformers' Trainer would hand in what its own losses are divided by

    def __init__(self, network: ProPETLModel, max_length: int) -> None:
        super().__init__()
        self.network = network
        self.max_length = max_length
        self._tokenizer = tokenizer_of(network.backbone).limited(max_length)
        self._specs: dict[str, TaskSpec] = {}
        self._samples: dict[str, Arrays] = {}

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return self.network.tasks

    def add_task(self, name: str, **definition: Any) -> None:
        """Adds a task with fresh masks and a fresh head.

        Args:
            name: of the task.
            definition: the keys of a task in a configuration, such as ``labels=["negative", "positive"]`` or
                ``problem="regression"``; ``columns`` names the texts, by default the one text ``text``.

        Raises:
            ConfigurationError: a key is unknown or missing, or the backbone has no such problem.
            TaskError: the name is taken.
        """
        columns = {"columns": "text", **kind_of(name, definition).defaults}
        backbone = self.network.backbone
        spec = settled(own_task(name, columns | definition), self._tokenizer, backbone.family.kind, np.empty(0))
        check_lengths(backbone, self.max_length, {name: spec.text})
        self.network.add_task(name, spec)
        self._specs[name] = spec

    def encode(self, task: str, texts: Iterable[Text], labels: Iterable[Any] | None = None) -> dict[str, Any]:
        """A batch for :meth:`forward`, tokenised as a device does it.

        Args:
            task: its name.
            texts: one text, or the texts of a row, for each row.
            labels: class names or indices, values, texts to generate, or a list of tags for each row; None for none.

        Raises:
            DataError: naming the row that cannot be used.
        """
        spec = self._spec(task)
        rows = rows_of(spec, texts, labels)
        continues = self.network.backbone.family.kind == "decoder"
        encoded = encode_task_rows(rows, spec, self._tokenizer, self.max_length, continues=continues)
        batch = collate_with(self._tokenizer)([encoded[index] for index in range(len(encoded))])
        if labels is None:
            del batch["labels"]
        return {"task": task, **batch}

    def forward(
        self,
        task: str,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> TaskOutput:
        """Logits, and with ``labels`` the mean loss, of a batch of one task; see :meth:`ProPETLModel.forward`."""
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if task not in self._samples:
            self._samples[task] = _first_rows(inputs)
        output: TaskOutput = self.network(task, labels=labels, **inputs)
        return output

    def generate(self, task: str, inputs: Mapping[str, Tensor], **options: Any) -> list[str]:
        """Generated answers to a batch of a text task; ``options`` as of transformers' ``GenerationConfig``."""
        tokens = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        return self._tokenizer.decode_batch(self.network.generate(task, tokens, **options).tolist())

    def parameter_groups(
        self, lr: float | None = None, score_lr: float | None = None, weight_decay: float = 0.1
    ) -> list[dict[str, Any]]:
        """Groups of everything that trains, for an optimizer of torch's.

        Args:
            lr: learning rate of prototype, heads and unshared weights; the method's default if None.
            score_lr: of the scores that masks are made of; the method's default if None.
            weight_decay: of weight matrices; scores, biases and LayerNorms have none.
        """
        defaults = self.network.config.specification
        rates = (lr or defaults.learning_rate, score_lr or defaults.score_learning_rate)
        return parameter_groups(self.network, *rates, weight_decay)

    def save(
        self, path: Path | str, scores: Mapping[str, dict[str, float]] | None = None, *, overwrite: bool = False
    ) -> Bundle:
        """Writes everything that was learned as a bundle, ready for ``propetl export``.

        Args:
            path: folder to write.
            scores: by task, its metrics on development rows, to be kept in the bundle.
            overwrite: replace a bundle that is there.

        Raises:
            ConfigurationError: a task has run on no batch yet, so there are no rows to check an export by; or the
                folder exists.
        """
        if unseen := [task for task in self.tasks if task not in self._samples]:
            raise ConfigurationError(f"task {unseen[0]!r} has run on no batch yet; run forward on one before save")
        contents = bundle_contents(self.network, self.max_length, self._samples, scores or {})
        write_bundle(Path(path), contents, overwrite=overwrite)
        return read_bundle(Path(path))


    def _spec(self, task: str) -> TaskSpec:
        if task not in self._specs:
            raise TaskError(f"task {task!r} is not in this model; it has {', '.join(self._specs) or 'none'}")
        return self._specs[task]


def _first_rows(inputs: Mapping[str, Tensor]) -> Arrays:
    """A few rows of a batch as token ids int64 ``[rows, longest]``, without the columns that all of them pad."""
    rows = {name: tensor[:SAMPLES].detach().cpu().numpy() for name, tensor in inputs.items()}
    width = int(rows["attention_mask"].sum(axis=1).max())
    return {name: np.ascontiguousarray(values[:, :width]) for name, values in rows.items()}


def _backbone(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, name: str) -> Backbone:
    family = family_of(model.config.model_type)
    own = _copy(_stem(model, family))
    try:
        checked = checked_tokenizer(copy.deepcopy(tokenizer), own.get_input_embeddings())
    except ValueError as error:
        raise ConfigurationError(f"the tokenizer cannot be used: {error}") from error
    return backbone_of(own, checked, family, name)


def _stem(model: PreTrainedModel, family: Family) -> PreTrainedModel:
    """The part of ``model`` that has the family's layers where a backbone has them."""
    for part in (model, model.base_model):
        try:
            part.get_submodule(family.stacks[0].layers)
        except AttributeError:
            continue
        assert isinstance(part, PreTrainedModel)
        return part
    raise ConfigurationError(
        f"a {type(model).__name__} has no {family.stacks[0].layers}: load the model with AutoModel, or, where it "
        "generates, with AutoModelForCausalLM or AutoModelForSeq2SeqLM"
    )


def _copy(model: PreTrainedModel) -> PreTrainedModel:
    """Modules of one's own over the same parameters."""
    other = {str(parameter.dtype) for parameter in model.parameters()} - {str(torch.float32)}
    if other:
        raise ConfigurationError(f"the model is in {min(other)}: load it with dtype=torch.float32")
    own = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    family = family_of(model.config.model_type)
    if family.attention_interface:
        own.set_attn_implementation("sdpa")
    return own
