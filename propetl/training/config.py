"""The training configuration: one YAML file, checked key by key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from propetl.nearest import nearest
from propetl.prototypes.registry import METHODS
from propetl.prototypes.spec import PROTOTYPE_KEYS, PrototypeConfig

Precision = Literal["fp32", "bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda"]

CHANGEABLE = frozenset({"output", "device", "threads", "tensorboard", "log_every", "allow_pickle"})
"""Keys that may differ between a run and its ``--resume``: they change the result by rounding at most."""


def _prototype(value: Any) -> Any:
    """Fills in the method's own sparsity; pydantic would pass over unknown keys of a dataclass."""
    if not isinstance(value, Mapping):
        return value
    unknown = sorted(set(map(str, value)) - set(PROTOTYPE_KEYS))
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; {nearest(unknown[0], PROTOTYPE_KEYS)}")
    if flags := [key for key, item in value.items() if isinstance(item, bool)]:
        raise ValueError(f"{flags[0]}: a number or a word is due, and no truth value")
    method = METHODS.get(str(value.get("method", PrototypeConfig.method)))
    return {"sparsity": method.sparsity, **value} if method else dict(value)


Prototype = Annotated[PrototypeConfig, BeforeValidator(_prototype)]
"""A prototype as a configuration gives it: what is left out is the method's default."""


def _tasks(value: Any) -> Any:
    """A list of known names becomes a mapping without definitions; one name, a list of one."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple):
        if not all(isinstance(name, str) for name in value) or len(set(value)) < len(value):
            raise ValueError("a list holds each task's name once; to define tasks, write 'name: definition' lines")
        return dict.fromkeys(value)
    return value


class TrainConfig(BaseModel):
    """Everything that decides what a training run learns, and where it leaves it.

    Relative paths are relative to the folder in which the command runs.

    Attributes:
        backbone: hub name, folder, or ``package:MODULE/FOLDER``.
        revision: of the hub's repository.
        allow_pickle: where the backbone has no safetensors, read its ``pytorch_model.bin``, tensors alone.
        prototype: the method and its hyper-parameters.
        head: ``linear`` or the backbone family's ``own``.
        tasks: task names; an own task's name maps to its definition (columns, label, problem, labels,
            metrics).
        data: folder with a folder per task, or ``hub:OWNER/SET``.
        output: run folder; the bundle stands in ``bundle`` inside it.
        max_length: tokens per row; longer input is truncated.
        epochs: passes over the data; may be a fraction.
        max_steps: optimizer steps; wins over ``epochs``.
        batch_size: rows per step over all processes, before accumulation.
        gradient_accumulation: batches per optimizer step.
        shards: parts in which a batch is computed, each with dropout of its own. Runs with the same number of
            them learn the same, whether one process computes all or several share them. Null: 2 on the CPU,
            one per process on GPUs or where 2 cannot be shared out.
        temperature: tasks are drawn in proportion to rows ** (1 / temperature); 1 is in proportion to their rows, and
            the larger it is, the more evenly small tasks and large ones take turns (10 in the paper's T5 runs).
        group_by_length: put rows of similar length into a batch, which pads less: half the work on GLUE.
        eval_batch_size: rows per batch of an evaluation.
        learning_rate: of prototype, weights and heads; the method's default if null.
        score_learning_rate: of the scores; the method's default if null.
        label_smoothing: share of each class label that is spread over all classes, or of each token of an answer in
            text over all tokens; regression has none.
        weight_decay: of weight matrices; never of biases, LayerNorms or scores.
        warmup_ratio: share of the steps with rising learning rate; it falls linearly after that.
        max_grad_norm: gradients are clipped to this norm.
        seed: of initial values, batches and dropout.
        precision: ``fp32``; with ``bf16`` (GPU, or a CPU that has it) and ``fp16`` (GPU) most products are
            computed in it, and weights stay float32.
        dropout: of the backbone while training; the backbone's own if null.
        eval_every: steps between evaluations; once an epoch if null.
        save_every: steps between checkpoints; once an epoch if null. A new best is always saved.
        early_stopping_patience: evaluations without a higher score after which training stops.
        max_train_rows: a seeded choice of this many training rows per task.
        max_dev_rows: the same of the development rows.
        tensorboard: write TensorBoard logs beside ``log.jsonl``.
        log_every: steps between lines of the log.
        device: ``auto`` takes a GPU if there is one.
        threads: CPU threads of torch; its own choice if null.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    backbone: str = Field(min_length=1)
    revision: str | None = None
    allow_pickle: bool = False
    prototype: Prototype = PrototypeConfig()
    head: Literal["linear", "own"] = "linear"
    tasks: Annotated[dict[str, dict[str, Any] | None], BeforeValidator(_tasks), Field(min_length=1)]
    data: str = Field(min_length=1)
    output: Path
    max_length: int = Field(default=128, ge=4)
    epochs: float = Field(default=10.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=32, ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    shards: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=1.0, gt=0)
    group_by_length: bool = True
    eval_batch_size: int = Field(default=64, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    score_learning_rate: float | None = Field(default=None, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.1, ge=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, gt=0)
    seed: int = Field(default=42, ge=0, lt=2**32)
    precision: Precision = "fp32"
    dropout: float | None = Field(default=None, ge=0, lt=1)
    eval_every: int | None = Field(default=None, ge=1)
    save_every: int | None = Field(default=None, ge=1)
    early_stopping_patience: int | None = Field(default=None, ge=1)
    max_train_rows: int | None = Field(default=None, ge=1)
    max_dev_rows: int | None = Field(default=None, ge=1)
    tensorboard: bool = True
    log_every: int = Field(default=10, ge=1)
    device: Device = "auto"
    threads: int | None = Field(default=None, ge=1)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads ``yes`` as a truth value, which pydantic would take for 1."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and {int, float} & {kind, *get_args(kind)}:
            raise ValueError("a number is due")
        return value

    @field_serializer("prototype")
    def _prototype_to_json(self, value: PrototypeConfig) -> dict[str, Any]:
        return value.to_json()

    @property
    def rate(self) -> float:
        """Learning rate of everything but the scores."""
        return self.learning_rate or self.prototype.specification.learning_rate

    @property
    def score_rate(self) -> float:
        """Learning rate of the scores."""
        return self.score_learning_rate or self.prototype.specification.score_learning_rate

    def to_json(self) -> dict[str, Any]:
        """JSON-able, with every default filled in."""
        return self.model_dump(mode="json")
