"""Measures what quantising cost, and refuses too much of it."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from propetl.data.metrics import check_metrics
from propetl.data.tables import load_split
from propetl.errors import BackendError, CheckFailed
from propetl.export.options import BF16, FP32, INT8_STATIC, ExportOptions
from propetl.runtime.engines.ort import onnxruntime_of
from propetl.runtime.engines.providers import ort_provider
from propetl.runtime.losses import Loss
from propetl.runtime.replay import GENERATED, TOGETHER
from propetl.runtime.report import Comparison
from propetl.runtime.selftest import self_test
from propetl.task import TaskSpec


class LossTooLarge(CheckFailed):
    """Quantising cost a task more than ``--max-drop``; ``losses`` are all that were measured."""

    def __init__(self, message: str, losses: tuple[Loss, ...]) -> None:
        super().__init__(message)
        self.losses = losses


def measured_losses(artifact: Path, bundle: Path, options: ExportOptions) -> tuple[Loss, ...]:
    """Losses of every task and form of a quantised artifact.

    With ``options.data``, on every development row, in the task's main metric; without, on the golden rows, as
    agreement alone. At bf16 it takes a GPU, and none are measured without ``options.data``.

    Raises:
        BackendError: bf16, and no GPU to measure it on.
        LossTooLarge: a metric fell by more than ``options.max_drop`` points.
        CheckFailed: a golden answer cannot be had, or is no number.
        DataError: a row cannot be used.
    """
    if not is_measured(options):
        return ()
    if options.data is None:
        report = self_test(artifact, threads=None)
        if failed := [check.breach for check in report.checks if not check.passed]:
            raise CheckFailed(f"the quantised artifact fails: {failed[0]}; nothing was written")
        _check_finite(report.comparisons, options)
        wanted = GENERATED if any(item.of == "texts" for item in report.comparisons) else TOGETHER
        return tuple(loss_of(item) for item in report.comparisons if item.batching == wanted)
    from propetl.export.parity import compare

    provider = "cuda" if options.quantize == BF16 else "cpu"
    found = compare(
        artifact,
        bundle,
        options.data,
        provider=provider,
        backbone=options.backbone,
        allow_pickle=options.allow_pickle,
    )
    compared = tuple(found)
    _check_finite(compared, options)
    losses = tuple(loss_of(item) for item in compared if item.batching == "batch")
    _check(losses, options)
    return losses


def is_measured(options: ExportOptions) -> bool:
    """Whether the export finds out what quantising cost: bf16 takes a GPU, which only ``options.data`` asks for."""
    return options.quantize != FP32 and (options.quantize != BF16 or options.data is not None)


def check_measurable(options: ExportOptions) -> None:
    """Refuses rows that nothing here could measure on.

    Raises:
        BackendError: bf16, and an ONNX Runtime without CUDA.
    """
    if options.quantize != BF16 or options.data is None:
        return
    name = ort_provider("cuda").name
    if name not in onnxruntime_of("cuda").get_available_providers():
        raise BackendError(
            f"--data measures --quantize {BF16} on a GPU, and the onnxruntime here has no {name}: leave --data out, "
            "and run propetl validate with --provider cuda where there is one"
        )


def check_rows(tasks: Mapping[str, TaskSpec], options: ExportOptions) -> None:
    """Reads the rows of ``options.data`` that the end of an export needs, so that it does not end there.

    Args:
        tasks: those to export.
        options: of the export.

    Raises:
        DataError: rows that cannot be read.
        MissingExtraError: a library that reads them, or that computes a task's metric.
    """
    if options.data is None:
        return
    check_metrics(metric for info in tasks.values() for metric in info.metrics)
    for info in tasks.values():
        for split in ("dev", *(["train"] if options.quantize == INT8_STATIC else [])):
            load_split(info, options.data, split)


def loss_of(item: Comparison) -> Loss:
    """What a comparison with PyTorch says of a task, in its main metric where its rows have labels."""
    metric = next(iter(item.metrics_reference), None)
    if metric is None:
        return Loss(item.task, item.form, item.rows, item.agreement)
    reference, quantised = item.metrics_reference[metric], item.metrics_artifact[metric]
    return Loss(item.task, item.form, item.rows, item.agreement, metric, reference, quantised)


def _check_finite(compared: Iterable[Comparison], options: ExportOptions) -> None:
    """Refuses answers that are no numbers, or not as many as they should be."""
    for item in compared:
        if item.of == "logits" and not math.isfinite(item.max_abs):
            raise CheckFailed(f"--quantize {options.quantize}: {item.breach}; nothing was written")


def _check(losses: tuple[Loss, ...], options: ExportOptions) -> None:
    lost = {loss: loss.points for loss in losses}
    too_much = {loss: points for loss, points in lost.items() if points is not None and not points <= options.max_drop}
    if too_much:
        worst = max(too_much, key=lambda loss: too_much[loss])
        raise LossTooLarge(
            f"--quantize {options.quantize} costs {worst.task} in form {worst.form} {too_much[worst]:.2f} points of "
            f"{worst.metric}, more than the {options.max_drop:g} of --max-drop; nothing was written: allow more, "
            "or choose a finer precision",
            losses,
        )
