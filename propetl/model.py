"""The trainable model: a frozen backbone, one prototype, and for each task its masks and head."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from propetl.backbone import Backbone, check_backbone
from propetl.bundle.format import HEADS
from propetl.bundle.reader import Bundle
from propetl.errors import BundleError, ConfigurationError, TaskError
from propetl.generation import generated_ids, only_tokens
from propetl.heads import Head, logits_of, pooled, token_states
from propetl.hooks import attach
from propetl.problems.text import text_of
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.mask_set import FixedMasks, SharedMaskSets, new_shared_masks
from propetl.prototypes.prototype import TensorPrototype, new_prototype
from propetl.prototypes.spec import PrototypeConfig
from propetl.prototypes.task import TaskPart, new_task_part, read_task_part
from propetl.task import TaskSpec, check_task_name


@dataclass
class TaskOutput(ModelOutput):
    """What one task says of a batch.

    Attributes:
        loss: mean over rows, or over the tokens that have a label; None without labels.
        logits: ``[batch, outputs]`` of the task's head, ``[batch, seq, outputs]`` of one that tags, or
            ``[batch, target, vocabulary]`` for text.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


class ProPETLModel(nn.Module):
    """One backbone and prototype for many tasks.

    ``forward`` runs one task at a time; a batch never mixes tasks while training.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: PrototypeConfig,
        head: str = "linear",
        tasks: Mapping[str, TaskSpec] | None = None,
        seed: int = 42,
        *,
        merge: bool = False,
    ) -> None:
        """Attaches ``config`` to ``backbone``, with fresh masks and heads for ``tasks``.

        The backbone's modules are copied and its parameters shared, so one backbone serves many models;
        full fine-tuning copies the parameters too. ``merge`` puts the method into the backbone's matrices where it
        can (see :func:`propetl.hooks.attach`).

        Raises:
            ConfigurationError: an unknown head, or several tasks with full fine-tuning.
        """
        super().__init__()
        if head not in HEADS:
            raise ConfigurationError(f"head is one of {', '.join(HEADS)}; got {head!r}")
        self.backbone = backbone
        self.config = config
        self.head_kind = head
        self.layout = backbone.info.layout(config)
        self.infos: dict[str, TaskSpec] = {}
        self._generator = torch.Generator().manual_seed(seed)
        self._current: EffectiveWeights | None = None
        self.network = _own_network(backbone, config.specification.trains_backbone)
        self.merged = merge
        attach(self.network, backbone.family, config, lambda: self._current, merge=merge)
        self.dropout = nn.Dropout(_dropout_of(backbone))
        self.label_smoothing = 0.0  # share of each label that the loss spreads over all classes or tokens
        self.parts = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        with self._seeded():
            self.prototype = new_prototype(self.layout)
            self.shared_masks = new_shared_masks(self.layout)
        for name, info in (tasks or {}).items():
            self.add_task(name, info)

    @classmethod
    def from_bundle(
        cls, bundle: Bundle, backbone: Backbone, *, merge: bool = False, seed: int = 42
    ) -> "ProPETLModel":
        """The model that a bundle was written from, with fixed masks, in evaluation mode.

        ``seed`` is that of the tasks which :meth:`add_task` adds to it.

        Raises:
            BundleError: the bundle was trained on another backbone.
        """
        info = bundle.info
        check_backbone(backbone, info.backbone)
        model = cls(backbone, info.prototype, info.head, seed=seed, merge=merge)
        model.prototype = TensorPrototype(
            {name: torch.from_numpy(value.copy()) for name, value in bundle.prototype.items()}
        )
        model.shared_masks = _read_shared_masks(bundle)
        for task, pack in bundle.packs.items():
            if info.prototype.specification.trains_backbone:
                model._load_backbone({name: torch.from_numpy(value) for name, value in pack.weights.items()})
            part = read_task_part(model.layout, pack.masks, pack.weights, pack.info.language)
            model._register(task, info.tasks[task], part)
            model._load_head(task, {name: torch.from_numpy(value.copy()) for name, value in pack.head.items()})
        return model.eval()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order they were added."""
        return tuple(self.infos)

    def add_task(self, name: str, info: TaskSpec) -> None:
        """Adds a task with fresh masks (or weights) and head.

        Raises:
            TaskError: the name cannot be a task's, or is taken.
            ConfigurationError: a second task with full fine-tuning, a problem that is not the backbone's, or a
                language that the prototype has no masks of.
        """
        if check_task_name(name) in self.infos:
            raise TaskError(f"task {name!r} is in this model already; choose another name")
        if self.config.specification.trains_backbone and self.infos:
            raise ConfigurationError("full fine-tuning changes the backbone for one task: train each with --separate")
        info.kind.check_backbone(name, self.backbone.family, self.layout)
        self.config.check_language(name, info.language)
        with self._seeded():
            self._register(name, info, new_task_part(self.layout, info.language))

    def freeze(self) -> None:
        """Stops training of the prototype, its masks and every task that is there, as for adding one more."""
        self.requires_grad_(False)

    def set_dropout(self, probability: float) -> None:
        """Sets every dropout of the backbone and the head."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = probability
            # Some of transformers' modules keep the probability as a number.
            for name in ("dropout", "attention_dropout", "activation_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, probability)

    def effective(self, task: str) -> EffectiveWeights:
        """The weights that run for ``task``."""
        part = self.parts[_key(task)]
        assert isinstance(part, TaskPart)
        return part.effective(self.prototype.tensors(), self.shared_masks)

    def pooled_state(self, weights: EffectiveWeights | None, inputs: Mapping[str, Tensor]) -> Tensor:
        """What a head reads with ``weights`` attached, ``[batch, hidden]``: :func:`propetl.heads.pooled`."""
        with self.running(weights):
            return pooled(self.network, self.backbone.family.kind, inputs)

    def token_states(self, weights: EffectiveWeights | None, inputs: Mapping[str, Tensor]) -> Tensor:
        """What a head that tags reads, ``[batch, seq, hidden]``: :func:`propetl.heads.token_states`."""
        with self.running(weights):
            return token_states(self.network, self.backbone.family.kind, inputs)

    def head_logits(self, task: str, weights: EffectiveWeights | None, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits of the head of ``task`` with ``weights`` attached: ``[batch, outputs]``, or at every token."""
        states = self._info(task).kind.states(self, weights, inputs)
        return logits_of(states, self.head_tensors(task), self.backbone.family.head_activation, self.dropout)

    def forward(
        self,
        task: str,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        divisor: float | None = None,
    ) -> TaskOutput:
        """Runs one task on a batch.

        Args:
            task: its name.
            input_ids: int64 ``[batch, seq]``.
            attention_mask: int64 ``[batch, seq]``, 1 at real tokens.
            token_type_ids: int64 ``[batch, seq]``; ignored by families that do not read it.
            labels: int64 ``[batch]`` classes, or float ``[batch]`` for regression; for text int64
                ``[batch, target]`` tokens of the answer, -100 behind it; for tags int64 ``[batch, seq]``, -100 where a
                token has none.
            divisor: of the summed loss; where the batch is a part of a larger one, its own number of rows or tokens is
                not what makes the mean.

        Returns:
            Logits: of the head ``[batch, outputs]``, or ``[batch, seq, outputs]`` for tags; for text
            ``[batch, target, vocabulary]``, or those of the first token alone without labels. With labels also the
            loss: the mean cross-entropy or squared error, or their sum over ``divisor``.

        Raises:
            TaskError: the task is not in this model.
        """
        info = self._info(task)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None and self.backbone.family.takes_token_types:
            inputs["token_type_ids"] = token_type_ids
        logits = info.kind.forward(self, task, self.effective(task), inputs, labels)
        if labels is None:
            return TaskOutput(logits=logits)
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        summed = info.kind.summed_loss(exact, labels, self.label_smoothing)
        return TaskOutput(summed / (info.kind.targets(labels) if divisor is None else divisor), logits)

    @torch.no_grad()
    def generate(self, task: str, inputs: Mapping[str, Tensor], **options: Any) -> Tensor:
        """The answers of a text task to a batch.

        Args:
            task: its name.
            inputs: ``input_ids`` and ``attention_mask``, int64 ``[batch, seq]``.
            options: of :class:`transformers.GenerationConfig`; they win over the task's own.

        Returns:
            int64 ``[batch, longest]``: the tokens generated, with the end token and padding behind them.

        Raises:
            TaskError: the task is not in this model, or is answered by a head.
        """
        info = self._info(task)
        info.kind.check_generates(task)
        with self.running(self.effective(task)):
            return generated_ids(self.network, text_of(info), inputs, **options)

    def head_tensors(self, task: str) -> dict[str, Tensor]:
        """The head of ``task`` by tensor name; empty for text."""
        if not self._info(task).outputs:
            return {}
        head = self.heads[_key(task)]
        assert isinstance(head, Head)
        return head.tensors()

    def score_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Trainable scores: they get a learning rate of their own (paper section 4.1)."""
        return [(name, parameter) for name, parameter in self._trainable() if ".scores." in name]

    def other_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Everything else that trains: prototype, heads, unshared weights."""
        return [(name, parameter) for name, parameter in self._trainable() if ".scores." not in name]

    def trainable_state(self) -> dict[str, Tensor]:
        """What a checkpoint has to keep, by parameter name: copies, which later steps do not change."""
        return {name: parameter.detach().clone() for name, parameter in self._trainable()}

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Puts back what :meth:`trainable_state` gave.

        Raises:
            ConfigurationError: names or shapes differ, so the state is of another configuration.
        """
        trainable = dict(self._trainable())
        shapes = {name: parameter.shape for name, parameter in trainable.items()}
        if {name: tensor.shape for name, tensor in state.items()} != shapes:
            raise ConfigurationError("the checkpoint is of another configuration: method, sizes or tasks differ")
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(state[name])

    def part_of(self, task: str) -> TaskPart:
        """What ``task`` owns beside its head."""
        part = self.parts[_key(task)]
        assert isinstance(part, TaskPart)
        return part

    def _trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad)

    def _info(self, task: str) -> TaskSpec:
        if task not in self.infos:
            raise TaskError(f"task {task!r} is not in this model; it has {', '.join(self.infos) or 'none'}")
        return self.infos[task]

    def _register(self, name: str, info: TaskSpec, part: TaskPart) -> None:
        self.infos[name] = info
        self.parts[_key(name)] = part
        if info.outputs:
            kind = info.head_kind(self.head_kind)
            head = Head(kind, self.layout.hidden_size, info.outputs, self.backbone.pooler)
            self.heads[_key(name)] = head

    def _load_head(self, task: str, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.head_tensors(task).items():
                parameter.copy_(values[name])

    def _load_backbone(self, values: Mapping[str, Tensor]) -> None:
        try:
            self.network.load_state_dict({name.removeprefix("backbone."): value for name, value in values.items()})
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise BundleError(f"the backbone's weights do not fit a {self.backbone.family.name}: {reason}") from error

    @contextmanager
    def running(self, weights: EffectiveWeights | None) -> Iterator[None]:
        """Lets the network run with ``weights`` attached, however it is called."""
        self._current = weights
        try:
            yield
        finally:
            self._current = None

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Draws from this model's own generator, so that what else ran before does not matter."""
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(self._generator.get_state())
            yield
            self._generator.set_state(torch.random.get_rng_state())


def _read_shared_masks(bundle: Bundle) -> SharedMaskSets:
    layout, shared = bundle.info.layout, bundle.shared_masks
    layers = FixedMasks(layout, shared.layers) if shared.layers else None
    return SharedMaskSets(layers, {name: FixedMasks(layout, masks) for name, masks in shared.languages.items()})


def _own_network(backbone: Backbone, trainable: bool) -> PreTrainedModel:
    """A copy of the backbone's modules; the parameters are shared unless they train."""
    shared = {} if trainable else {id(tensor): tensor for tensor in backbone.model.parameters()}
    network = copy.deepcopy(backbone.model, shared)
    network.requires_grad_(trainable)
    if backbone.family.generates:
        network.generation_config = only_tokens(network.generation_config, backbone.pad_token_id)
    return network


def _dropout_of(backbone: Backbone) -> float:
    config = backbone.model.config
    probability = getattr(config, "hidden_dropout_prob", getattr(config, "dropout", 0.1))
    return float(probability)


def _key(task: str) -> str:
    """Module names may hold no dots and may not be an attribute's, such as ``values``; no task name has a colon."""
    return "task:" + task.replace(".", ":")
