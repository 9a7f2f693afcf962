"""Random bundles of any method without any training, and without torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.bits import pack
from propetl.bundle import BackboneInfo, BundleContents, SharedMasks, TaskContents
from propetl.bundle.text import PLACE, TextInfo
from propetl.prototypes.layout import TaskLayout
from propetl.prototypes.spec import PrototypeConfig
from propetl.task import TaskSpec

Random = np.random.Generator
Outputs = int | TextInfo | tuple[str, ...]
"""Classes, 0 for a regression; how a task is answered in text; or the tags of its words."""

BACKBONE = BackboneInfo(
    name="nowhere/tiny",
    revision=None,
    family="bert",
    fingerprint="f" * 64,
    parameters=1234,
    hidden_size=12,
    layers=2,
    ffn_size=24,
)
TOKENIZER = {"tokenizer.json": b'{"version": "1.0"}', "tokenizer_config.json": b"{}"}
TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def task_info(outputs: int, language: str | None = None) -> TaskSpec:
    """A classification of ``outputs`` classes; 0 for a regression."""
    if outputs == 0:
        columns, metrics, scores = ("left", "right"), ("pearson", "spearman"), {"pearson": 0.5}
        return TaskSpec("task", columns, problem="regression", metrics=metrics, scores=scores, language=language)
    labels = tuple(f"label {index}" for index in range(outputs))
    return TaskSpec("task", ("text",), labels=labels, scores={"accuracy": 0.75}, language=language)


def tagging_info(labels: tuple[str, ...], language: str | None = None) -> TaskSpec:
    """A tagging of words by ``labels``."""
    scores = {"word_accuracy": 0.25}
    return TaskSpec(
        "task",
        ("tokens",),
        problem="tagging",
        labels=labels,
        metrics=("word_accuracy",),
        scores=scores,
        label_column="tags",
        language=language,
    )


def text_task_info(text: TextInfo, language: str | None = None) -> TaskSpec:
    """A task that is answered as ``text`` says, with a column for each place of its prompt."""
    columns = tuple(f"text{place}" for place in range(text.prompt.count(PLACE)))
    labels = tuple(f"label {index}" for index in range(len(text.words)))
    metrics = ("accuracy",) if text.words else ("pearson",) if text.step is not None else ("rouge1",)
    return TaskSpec(
        "task",
        columns,
        problem="text",
        labels=labels,
        metrics=metrics,
        scores=dict.fromkeys(metrics, 0.5),
        language=language,
        text=text,
    )


def random_contents(
    config: PrototypeConfig,
    backbone: BackboneInfo = BACKBONE,
    tasks: Mapping[str, Outputs] | None = None,
    *,
    head: str = "linear",
    seed: int = 0,
    tokenizer: Mapping[str, bytes] = TOKENIZER,
    token_inputs: tuple[str, ...] = TOKEN_INPUTS,
) -> BundleContents:
    """A bundle of ``tasks`` (outputs by name, 0 for a regression, a text, or tags), every tensor drawn from ``seed``.

    Tasks take turns with the languages of ``config``.
    """
    random = np.random.default_rng(seed)
    layout = backbone.layout(config)
    chosen = {"first": 2, "second": 3} if tasks is None else tasks
    return BundleContents(
        backbone=backbone,
        config=config,
        head=head,
        max_length=24,
        prototype={name: _normal(random, shape) for name, shape in layout.prototype_shapes().items()},
        tasks={
            name: random_task(layout, outputs, random, head, token_inputs, turn=turn)
            for turn, (name, outputs) in enumerate(chosen.items())
        },
        tokenizer=dict(tokenizer),
        created_by="tests",
        shared_masks=SharedMasks(
            _masks(random, layout, layout.layer_mask_shapes()),
            {name: _masks(random, layout, layout.language_mask_shapes()) for name in config.languages},
        ),
    )


def random_task(
    layout: TaskLayout,
    outputs: Outputs,
    random: Random,
    head: str = "linear",
    token_inputs: tuple[str, ...] = TOKEN_INPUTS,
    *,
    turn: int = 0,
) -> TaskContents:
    """Masks (or weights), head and sample rows of one task; ``turn`` chooses its language."""
    languages = layout.config.languages
    language = languages[turn % len(languages)] if languages else None
    info = _info(outputs, language)
    hidden = layout.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"weight": (info.outputs, hidden), "bias": (info.outputs,)}
    if info.head_kind(head) == "own":
        shapes |= {"dense.weight": (hidden, hidden), "dense.bias": (hidden,)}
    if info.text is not None:
        shapes = {}
    return TaskContents(
        info=info,
        masks=_masks(random, layout, layout.mask_shapes()),
        weights={name: _normal(random, shape) for name, shape in layout.weight_shapes().items()},
        head={name: _normal(random, shape) for name, shape in shapes.items()},
        samples=sample_rows(random, token_inputs),
    )


def _info(outputs: Outputs, language: str | None) -> TaskSpec:
    if isinstance(outputs, TextInfo):
        return text_task_info(outputs, language)
    return tagging_info(outputs, language) if isinstance(outputs, tuple) else task_info(outputs, language)


def sample_rows(
    random: Random, token_inputs: tuple[str, ...] = TOKEN_INPUTS, rows: int = 3, length: int = 9
) -> dict[str, NDArray[Any]]:
    """Token ids with [CLS] in front and padding behind, as the tiny backbones take them."""
    mask = (np.arange(length) < random.integers(2, length + 1, size=(rows, 1))).astype(np.int64)
    ids = random.integers(5, 40, size=(rows, length)) * mask
    ids[:, 0] = 2
    every = {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": (np.arange(length) > length // 2) * mask,
    }
    return {name: every[name] for name in token_inputs}


def _masks(random: Random, layout: TaskLayout, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.uint8]]:
    """Random masks of the configured sparsity, packed to ``shapes``."""
    sizes = {tensor.name: tensor.size for tensor in layout.masked_tensors}
    return {name: _packed(random, layout, sizes[name], shape[:-1]) for name, shape in shapes.items()}


def _packed(random: Random, layout: TaskLayout, size: int, lead: tuple[int, ...]) -> NDArray[np.uint8]:
    kept = size - int((1 - layout.config.sparsity) * size)
    order = np.argsort(random.random((*lead, size)), axis=-1)
    return pack(order < kept)


def _normal(random: Random, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Values large enough that a wrong mask or a swapped tensor shows in the logits."""
    return (0.3 * random.normal(size=shape)).astype(np.float32)
