"""Tracing: from a program to a graph in which the task's tensors are still inputs."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor

from propetl.export.program import BareProgram, Program, RowsProgram
from propetl.runtime.manifest import TensorSignature
from propetl.runtime.signatures import BATCH, LABELS, LOGITS, SEQUENCE

# Sizes of the example arguments: all different, and none 0 or 1, so that the tracer takes none for another's.
_EXAMPLE = {BATCH: 3, SEQUENCE: 7, LABELS: 5}


@dataclass(frozen=True)
class Trace:
    """A traced program.

    Attributes:
        model: graph with the inputs ``text_inputs`` and ``task_inputs`` and the output ``logits``.
        text_inputs: names such as ``input_ids``.
        task_inputs: the task's tensors, as the graph takes them.
        opset: of the standard operators.
    """

    model: ir.Model
    text_inputs: tuple[str, ...]
    task_inputs: tuple[TensorSignature, ...]
    opset: int


def trace(
    program: Program | BareProgram, text_inputs: tuple[str, ...], tensors: tuple[TensorSignature, ...], opset: int
) -> Trace:
    """Traces ``program`` with free batch, sequence and number of labels.

    Args:
        program: the function.
        text_inputs: names of the model's int64 inputs ``[batch, sequence]``.
        tensors: the tensors of one task; for a program of rows they get a leading axis here, as long as the batch.
        opset: of the standard operators.
    """
    task_inputs = _with_axis(tensors) if isinstance(program, RowsProgram) else tensors
    inputs = {name: torch.ones(_EXAMPLE[BATCH], _EXAMPLE[SEQUENCE], dtype=torch.int64) for name in text_inputs}
    task = {tensor.name: _example(tensor) for tensor in task_inputs}
    with _quiet(), torch.no_grad():
        exported = torch.onnx.export(
            program.eval(),
            kwargs={"inputs": inputs, "task": task},
            dynamo=True,
            opset_version=opset,
            input_names=[*text_inputs, *task],
            output_names=[LOGITS],
            dynamic_shapes=_dynamic_shapes(text_inputs, task_inputs),
            optimize=False,
            verbose=False,
        )
    assert exported is not None
    return Trace(exported.model, text_inputs, task_inputs, opset)


def _with_axis(tensors: tuple[TensorSignature, ...]) -> tuple[TensorSignature, ...]:
    return tuple(TensorSignature(tensor.name, tensor.dtype, (BATCH, *tensor.shape)) for tensor in tensors)


def _example(tensor: TensorSignature) -> Tensor:
    shape = [_EXAMPLE[size] if isinstance(size, str) else size for size in tensor.shape]
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype))


def _dynamic_shapes(
    text_inputs: tuple[str, ...], task_inputs: tuple[TensorSignature, ...]
) -> dict[str, Mapping[str, object]]:
    names = {name for tensor in task_inputs for name in tensor.shape if isinstance(name, str)} | {
        BATCH,
        SEQUENCE,
    }
    free = {name: torch.export.Dim(name, min=1) for name in sorted(names)}
    texts = {name: {0: free[BATCH], 1: free[SEQUENCE]} for name in text_inputs}
    task = {
        tensor.name: {axis: free[size] for axis, size in enumerate(tensor.shape) if isinstance(size, str)}
        for tensor in task_inputs
    }
    return {"inputs": texts, "task": task}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its steps on standard output and warns of its own deprecations; neither helps a user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
