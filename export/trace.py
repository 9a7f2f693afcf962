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

from propetl.export.foreign_code import has_foreign_code
from propetl.export.generation_program import PartProgram
from propetl.export.kept_traces import KeptTraces
from propetl.export.program import BareProgram, Program, RowsProgram
from propetl.export.program_key import program_key, weights_of
from propetl.export.skeleton import skeleton_of, with_weights
from propetl.runtime.generation.parts import PAST, PRESENT, TARGET, Part
from propetl.runtime.manifest import TensorSignature
from propetl.runtime.signatures import BATCH, LABELS, LOGITS, SEQUENCE, TOKEN_SHAPE

# Sizes of the example arguments: all different, and none 0 or 1, so that the tracer takes none for another's.
_EXAMPLE = {BATCH: 3, SEQUENCE: 7, LABELS: 5, TARGET: 6, PAST: 11, PRESENT: 17}


@dataclass(frozen=True)
class Trace:
    """A traced program.

    Attributes:
        model: graph with the inputs ``text_inputs`` and ``task_inputs``; its output is ``logits``, or those of a part.
        text_inputs: names such as ``input_ids``: what is not the task's.
        task_inputs: the task's tensors, as the graph takes them.
        opset: of the standard operators.
        true_sizes: names of sizes; what the model says of shapes in them stays true when it is bound.
    """

    model: ir.Model
    text_inputs: tuple[str, ...]
    task_inputs: tuple[TensorSignature, ...]
    opset: int
    true_sizes: frozenset[str] = frozenset()


def trace(
    program: Program | BareProgram,
    text_inputs: tuple[str, ...],
    tensors: tuple[TensorSignature, ...],
    opset: int,
    kept: KeptTraces | None = None,
) -> Trace:
    """Traces ``program`` with free batch, sequence and number of labels.

    Args:
        program: the function.
        text_inputs: names of the model's int64 inputs ``[batch, sequence]``.
        tensors: the tensors of one task; for a program of rows they get a leading axis here, as long as the batch.
        opset: of the standard operators.
        kept: where a program that was traced before may be found; None to trace in any case.
    """
    inputs = tuple(TensorSignature(name, "int64", TOKEN_SHAPE) for name in text_inputs)
    task_inputs = _with_axis(tensors) if isinstance(program, RowsProgram) else tensors
    return _traced(program, inputs, task_inputs, (LOGITS,), opset, kept)


def trace_part(
    program: PartProgram,
    part: Part,
    tensors: tuple[TensorSignature, ...],
    opset: int,
    kept: KeptTraces | None = None,
) -> Trace:
    """Traces one of the graphs by which a backbone generates; sizes named in ``part`` are free.

    Args:
        program: the function.
        part: what it takes and gives.
        tensors: the task's tensors of one task; for a program of rows they get a leading axis here, as above.
        opset: of the standard operators.
        kept: where a program that was traced before may be found; None to trace in any case.
    """
    names = tuple(output.name for output in part.outputs)
    task = _with_axis(tensors) if program.rows else tensors
    traced = _traced(program, part.inputs, task, names, opset, kept)
    graph = traced.model.graph
    for value, stated in zip([*graph.inputs, *graph.outputs], [*part.inputs, *task, *part.outputs], strict=True):
        value.shape = ir.Shape(stated.shape)  # the exporter writes sums such as "past + 1"
    return traced


def _traced(
    program: Program | BareProgram,
    inputs: tuple[TensorSignature, ...],
    task_inputs: tuple[TensorSignature, ...],
    outputs: tuple[str, ...],
    opset: int,
    kept: KeptTraces | None,
) -> Trace:
    weights, stated = weights_of(program), (*inputs, *task_inputs)
    if kept is not None and has_foreign_code(program.model):
        kept = None
    key = "" if kept is None else program_key(program, (inputs, task_inputs, outputs, opset))
    model = None if kept is None else _found(kept, key, weights, stated, outputs)
    if model is None:
        model = _exported(program, inputs, task_inputs, outputs, opset)
        skeleton = skeleton_of(model, weights)
        if skeleton is not None:  # the same way whether it is kept or not, so that the same bytes are written
            model = with_weights(skeleton, weights)
            if kept is not None:
                kept.put(key, skeleton)
    return Trace(model, tuple(tensor.name for tensor in inputs), task_inputs, opset)


def _found(
    kept: KeptTraces,
    key: str,
    weights: Mapping[str, Tensor],
    inputs: tuple[TensorSignature, ...],
    outputs: tuple[str, ...],
) -> ir.Model | None:
    """The graph that is kept under ``key``, with ``weights``; None where there is none, or the file is another."""
    skeleton = kept.get(key)
    if skeleton is None:
        return None
    try:
        model = with_weights(skeleton, weights)
    except Exception:  # the readers of protobuf and onnx_ir have errors of many kinds, and a kept file is no input
        return None
    return model if _is_between(model.graph, inputs, outputs) else None


def _is_between(graph: ir.Graph, inputs: tuple[TensorSignature, ...], outputs: tuple[str, ...]) -> bool:
    """Whether ``graph`` takes ``inputs`` and gives ``outputs``, in this order."""
    stated = [(tensor.name, tensor.dtype, len(tensor.shape)) for tensor in inputs]
    taken = [
        (value.name, None if value.dtype is None else str(value.dtype.numpy()), len(value.shape or ()))
        for value in graph.inputs
    ]
    return taken == stated and [value.name for value in graph.outputs] == list(outputs)


def _exported(
    program: torch.nn.Module,
    inputs: tuple[TensorSignature, ...],
    task_inputs: tuple[TensorSignature, ...],
    outputs: tuple[str, ...],
    opset: int,
) -> ir.Model:
    examples = {
        kind: {tensor.name: _example(tensor) for tensor in tensors}
        for kind, tensors in (("inputs", inputs), ("task", task_inputs))
    }
    with _quiet(), torch.no_grad():
        exported = torch.onnx.export(
            program.eval(),
            kwargs=examples,
            dynamo=True,
            opset_version=opset,
            input_names=[name for tensors in examples.values() for name in tensors],
            output_names=list(outputs),
            dynamic_shapes=_dynamic_shapes(inputs, task_inputs),
            optimize=False,
            verbose=False,
        )
    assert exported is not None
    return exported.model


def _with_axis(tensors: tuple[TensorSignature, ...]) -> tuple[TensorSignature, ...]:
    return tuple(TensorSignature(tensor.name, tensor.dtype, (BATCH, *tensor.shape)) for tensor in tensors)


def _example(tensor: TensorSignature) -> Tensor:
    """Ones where the model reads ids and masks, which have to let something be attended to; else zeros."""
    shape = [_EXAMPLE[size] if isinstance(size, str) else size for size in tensor.shape]
    return torch.full(shape, int(tensor.dtype == "int64"), dtype=getattr(torch, tensor.dtype))


def _dynamic_shapes(
    inputs: tuple[TensorSignature, ...], task_inputs: tuple[TensorSignature, ...]
) -> dict[str, dict[str, dict[int, object]]]:
    named = {size for tensor in (*inputs, *task_inputs) for size in tensor.shape if isinstance(size, str)}
    free: dict[str, object] = {name: torch.export.Dim(name, min=1) for name in sorted(named)}
    # A sum of two others: the exporter has no name for it, and finds it out.
    free |= {PRESENT: torch.export.Dim.DYNAMIC} if PRESENT in named else {}
    return {
        kind: {
            tensor.name: {axis: free[size] for axis, size in enumerate(tensor.shape) if isinstance(size, str)}
            for tensor in tensors
        }
        for kind, tensors in (("inputs", inputs), ("task", task_inputs))
    }


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
