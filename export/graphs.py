"""From a trace to the graph of a form: which passes, in which order."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from propetl.bundle.pack import TaskPack
from propetl.export.passes.bind_inputs import BindInputs
from propetl.export.passes.drop_stale_shapes import DropStaleShapes
from propetl.export.passes.fold_constants import FoldConstants
from propetl.export.passes.fuse_attention import FuseAttention
from propetl.export.passes.fuse_cached_attention import FuseCachedAttention
from propetl.export.passes.join_attention_biases import JoinAttentionBiases
from propetl.export.passes.keep_task import KeepTask
from propetl.export.passes.keep_text import KeepText
from propetl.export.passes.own_integers import OwnIntegers
from propetl.export.passes.pick_rows import PickRows
from propetl.export.passes.remove_nan_guard import RemoveNanGuard
from propetl.export.passes.reuse_sums import ReuseSums
from propetl.export.passes.share_row import ShareRow
from propetl.export.passes.state_reshapes import StateReshapes
from propetl.export.passes.transpose_once import TransposeOnce
from propetl.export.precisions import folded_quantisation, trace_quantisation
from propetl.export.trace import Trace
from propetl.runtime.manifest import GraphInfo, TensorSignature
from propetl.runtime.operators import ONNXRUNTIME

Arrays = dict[str, NDArray[Any]]


def trace_passes(operators: str, precision: str, masks_stay: bool, encoder: bool) -> list[ir.passes.PassBase]:
    """Once per trace, before anything is bound: the constants that these leave belong to all graphs of the trace."""
    fusions = _fusions(encoder) if operators == ONNXRUNTIME else []
    detours, tidied = [RemoveNanGuard(), TransposeOnce()], [StateReshapes(), ReuseSums()]
    return [FoldConstants(), *detours, *fusions, *tidied, *trace_quantisation(precision, masks_stay)]


def _fusions(encoder: bool) -> list[ir.passes.PassBase]:
    """The library's for an encoder alone: of a decoder it makes products that ONNX Runtime refuses to load."""
    fused = [JoinAttentionBiases(), FuseAttention()] if encoder else [FuseCachedAttention()]
    return [*fused, FoldConstants()]


def folded_passes(pack: TaskPack, trace: Trace, precision: str) -> list[ir.passes.PassBase]:
    """One graph for one task: its masks disappear into the weights."""
    bound = BindInputs(_needed(pack.tensors(), trace))
    return [bound, FoldConstants(), *folded_quantisation(precision), DropStaleShapes()]


def switchable_passes(trace: Trace) -> list[ir.passes.PassBase]:
    """One graph for any task: masks and head stay inputs, and serve every row of the batch."""
    return [ShareRow(trace.text_inputs), DropStaleShapes()]


def bank_passes(packs: Sequence[TaskPack], trace: Trace) -> list[ir.passes.PassBase]:
    """One graph for the tasks of ``packs``, in this order; each row of a batch picks one by ``task_id``."""
    return [PickRows(_needed(bank_of(packs), trace), len(packs)), FoldConstants(), OwnIntegers(), DropStaleShapes()]


def apply_passes(trace: Trace) -> list[ir.passes.PassBase]:
    """What a task decides alone, run once per switch: packed masks and head to the weights that run."""
    return [KeepTask(trace.text_inputs), DropStaleShapes()]


def text_passes(trace: Trace, names: Sequence[str] | None = None) -> list[ir.passes.PassBase]:
    """What the text runs through, once per batch: takes what the graph of :func:`apply_passes` gives.

    ``names`` are those that a stage which several traces share has for it. It keeps shapes, as sessions alone run it,
    and these know what not to do with them: with shapes at hand, ONNX Runtime joins sums and normalisations by default,
    to an operator that takes six times as long on a CPU. Other tools run the graphs of the forms.
    """
    return [KeepText(trace.text_inputs, names), DropStaleShapes(trace.true_sizes)]


def bank_of(packs: Sequence[TaskPack]) -> Arrays:
    """Task tensors with a leading task axis; heads are filled up with zeros to the widest one's labels."""
    widest = max(pack.info.outputs for pack in packs)
    tasks = [_widened(pack.tensors(), widest) for pack in packs]
    return {name: np.stack([task[name] for task in tasks]) for name in tasks[0]}


def _widened(tensors: Arrays, outputs: int) -> Arrays:
    if not outputs:  # answers in text need no head
        return tensors
    missing = outputs - tensors["head.bias"].shape[0]
    weight, bias = tensors["head.weight"], tensors["head.bias"]
    return tensors | {
        "head.weight": np.pad(weight, ((0, missing), (0, 0))),
        "head.bias": np.pad(bias, (0, missing)),
    }


def _needed(tensors: Mapping[str, NDArray[Any]], trace: Trace) -> Arrays:
    """The tensors that the traced program takes: a bare backbone takes the head only."""
    names = {tensor.name for tensor in trace.task_inputs}
    return {name: tensors[name] for name in sorted(names)}


def write_checked(model: ir.Model, root: Path, path: Path) -> None:
    """Writes ``model`` to ``path``, once the ONNX checker accepts it.

    It is checked while it lies beside the shared weights, in ``root``: the checker refuses weights in another folder,
    and hard links.
    """
    beside_weights = root / "model.onnx"
    ir.save(model, beside_weights)
    onnx.checker.check_model(str(beside_weights), full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside_weights.replace(path)


def graph_info(model: ir.Model, path: str) -> GraphInfo:
    """Inputs and outputs of ``model`` as the manifest states them."""
    return GraphInfo(path, tuple(map(_signature, model.graph.inputs)), tuple(map(_signature, model.graph.outputs)))


def _signature(value: ir.Value) -> TensorSignature:
    assert value.name is not None and value.dtype is not None and value.shape is not None
    sizes = tuple(size if isinstance(size, int) else str(size) for size in value.shape)
    return TensorSignature(value.name, str(value.dtype.numpy()), sizes)
