"""ONNX Runtime's adapters: one graph whose weights of the task are inputs, and a file of them for each task.

ONNX Runtime maps an ``.onnx_adapter`` file into memory and feeds its tensors to the inputs of the same names
(``RunOptions.add_active_adapter``). The graph here takes a task's *folded* weights, so it unpacks no masks and
serves any bundle of the same method and sizes on the same backbone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from torch import Tensor

import propetl
from propetl.bundle.format import head_shapes
from propetl.bundle.pack import HEAD, WEIGHT
from propetl.bundle.tensors import Arrays
from propetl.errors import MissingExtraError
from propetl.export.golden import text_inputs_of
from propetl.export.kept_traces import KeptTraces
from propetl.export.layouts import shared_place
from propetl.export.options import ExportOptions
from propetl.export.other_tools.folded_weights import folded_weights
from propetl.export.passes import run_passes
from propetl.export.passes.describe_model import DescribeModel
from propetl.export.passes.drop_stale_shapes import DropStaleShapes
from propetl.export.passes.fold_constants import FoldConstants
from propetl.export.passes.give_defaults import GiveDefaults
from propetl.export.passes.refuse_negatives import RefuseNegatives
from propetl.export.passes.remove_nan_guard import RemoveNanGuard
from propetl.export.passes.share_weights import ShareWeights
from propetl.export.program import Program
from propetl.export.trace import trace
from propetl.export.weight_store import WeightStore
from propetl.model import ProPETLModel
from propetl.prototypes.effective import EffectiveWeights
from propetl.runtime.manifest import TensorSignature
from propetl.runtime.signatures import LABELS

GRAPH_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"
SUFFIX = ".onnx_adapter"

# Numbers that ONNX Runtime keeps in the file for whoever wrote it.
_ADAPTER_VERSION = _MODEL_VERSION = 1


class FoldedProgram(Program):
    """``logits = program(inputs, task)`` where ``task`` holds folded weights ``weight.NAME`` ``[slots, *shape]``."""

    def _effective(self, task: Mapping[str, Tensor], rows: bool = False) -> EffectiveWeights | None:
        names = [tensor.name for tensor in self.model.layout.tensors]
        return EffectiveWeights({name: task[WEIGHT + name] for name in names}, {}, rows) if names else None


def adapter_tensors(model: ProPETLModel, task: str) -> Arrays:
    """What the adapter of ``task`` holds: folded weights and head, by the names of the graph's inputs."""
    weights = {WEIGHT + name: value for name, value in folded_weights(model, task).items()}
    head = {HEAD + name: value.detach().float().cpu().numpy() for name, value in model.head_tensors(task).items()}
    return weights | head


def write_graph(
    folder: Path, model: ProPETLModel, task: str, metadata: Mapping[str, str], options: ExportOptions
) -> None:
    """Writes the graph for tasks such as ``task`` and, beside it, its weights; ``metadata`` goes into the graph."""
    info = model.infos[task]
    signatures = _signatures(model, info.head_kind(model.head_kind))
    program = FoldedProgram(model, at=shared_place([info]))
    kept = KeptTraces.of(options.traces)
    traced = trace(program, text_inputs_of(model), signatures, options.opset, kept)
    with WeightStore(folder / WEIGHTS_FILE) as store:
        passes: list[ir.passes.PassBase] = [FoldConstants(), RemoveNanGuard(), ShareWeights(store)]
        passes += [GiveDefaults(_zeros(signatures), store), DropStaleShapes(), RefuseNegatives()]
        run_passes(traced.model, [*passes, DescribeModel(propetl.__version__, metadata)])
        ir.save(traced.model, folder / GRAPH_FILE)
    onnx.checker.check_model(str(folder / GRAPH_FILE), full_check=True)


def write_adapter(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Writes ``tensors`` as an ``.onnx_adapter`` file.

    Raises:
        MissingExtraError: ONNX Runtime, which writes the file, is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingExtraError("form onnx-adapter", "onnxruntime", "cpu") from error
    adapter = onnxruntime.AdapterFormat()
    adapter.set_adapter_version(_ADAPTER_VERSION)
    adapter.set_model_version(_MODEL_VERSION)
    values = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    adapter.set_parameters({name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in values.items()})
    adapter.export_adapter(str(path))


def _signatures(model: ProPETLModel, head: str) -> tuple[TensorSignature, ...]:
    """One input for each tensor of an adapter; the number of labels is free."""
    layout = model.layout
    shapes = {WEIGHT + tensor.name: (tensor.slots, *tensor.shape) for tensor in layout.tensors}
    heads = head_shapes(head, layout.hidden_size, LABELS)
    return tuple(
        TensorSignature(name, "float32", shape)
        for name, shape in (shapes | {HEAD + name: shape for name, shape in heads.items()}).items()
    )


def _zeros(signatures: tuple[TensorSignature, ...]) -> Arrays:
    """Without an adapter the graph has one label, whose logit is zero: an answer that nobody takes for one."""
    return {
        item.name: np.zeros([1 if isinstance(size, str) else size for size in item.shape], dtype=np.float32)
        for item in signatures
    }
