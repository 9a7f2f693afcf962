"""What to export and how; loads no torch, so that the command line can show its defaults."""

from dataclasses import dataclass

from propetl.errors import ConfigurationError
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.runtime.operators import STANDARD
from propetl.runtime.signatures import FOLDED

DEFAULT_OPSET = 20
"""Newest that ONNX Runtime runs and TensorRT's parser reads."""

OPSETS = (18, 19, 20)

TRITON, WEB = "triton", "web"
"""Layouts: a model repository, or a page for browsers, besides the artifact."""

DEFAULT_MAX_BATCH = 32
"""Rows that Triton puts into one batch."""

OLDEST_FOR_INT8 = 19
"""Before it, an integer can become float32 only."""

PEFT, ONNX_ADAPTER = "peft", "onnx-adapter"
FP32, FP16, BF16, INT8, INT8_STATIC, INT4 = "fp32", "fp16", "bf16", "int8", "int8-static", "int4"
QUANTISATIONS = (FP32, FP16, BF16, INT8, INT8_STATIC, INT4)
"""fp32 quantises nothing; fp16 and bf16 halve weights and arithmetic, for GPUs; int8: weights by column, activations as
they come, or by ranges measured before; int4: weights by block of 32."""

HALVES = (FP16, BF16)
"""Floats of half the bits: the finished float32 graphs are brought to them."""

DEFAULT_MAX_DROP = 1.0

OTHER_TOOLS = (PEFT, ONNX_ADAPTER)
"""Forms that other tools run; each is a folder of its own and no artifact."""


@dataclass(frozen=True)
class ExportOptions:
    """What to export and how.

    Attributes:
        forms: among ``folded``, ``switchable``, ``bank`` and ``bare``; or one of :data:`OTHER_TOOLS`.
        tasks: which tasks; empty for all.
        opset: of the standard operators.
        operators: which the graphs may use; a key of ``propetl.runtime.operators.OPERATOR_SETS``.
        quantize: precision of the weights, one of :data:`QUANTISATIONS`.
        max_drop: points of a task's metric that quantising may cost, where ``data`` is given.
        data: rows on which that is measured: a folder, a file, or ``hub:NAME``; for int8-static also the training
            rows by which ranges are.
        tune: leave graphs tuned for the CPU of this machine in the artifact.
        merge_weights: put the method into the backbone's matrices (folded only) instead of beside them.
        merge_decoders: leave both decoders of each folded task in one graph as well, for other tools.
        standalone: copy the shared files into each folded folder, so that it can be moved alone.
        backbone: where to load the backbone from, instead of the place the bundle names.
        allow_pickle: read a backbone that has no safetensors, tensors alone.
        overwrite: replace an artifact that is there.
        traces: folder that keeps traced graphs for further exports; else ``PROPETL_TRACES`` may name one.
        engines: engines to build from the graphs; None for graphs alone.
        polygraphy: leave recorded inputs and outputs for Polygraphy.
        triton: add a model repository for NVIDIA's Triton Inference Server.
        max_batch: rows that Triton puts into one batch at most.
        web: add a page for browsers.
    """

    forms: tuple[str, ...] = (FOLDED,)
    tasks: tuple[str, ...] = ()
    opset: int = DEFAULT_OPSET
    operators: str = STANDARD
    quantize: str = FP32
    max_drop: float = DEFAULT_MAX_DROP
    data: str | None = None
    tune: bool = False
    merge_weights: bool = False
    merge_decoders: bool = False
    standalone: bool = False
    backbone: str | None = None
    allow_pickle: bool = False
    overwrite: bool = False
    traces: str | None = None
    engines: TensorRTOptions | None = None
    polygraphy: bool = False
    triton: bool = False
    max_batch: int = DEFAULT_MAX_BATCH
    web: bool = False

    def __post_init__(self) -> None:
        if self.max_batch < 1:
            raise ConfigurationError(f"--max-batch takes a number of at least 1; got {self.max_batch}")
