"""Options that ONNX Runtime's execution providers are given."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from propetl.errors import ConfigurationError
from propetl.runtime.engines.provider import OrtProvider
from propetl.runtime.manifest import GraphInfo, Manifest
from propetl.runtime.signatures import BATCH, LABELS, SEQUENCE

if TYPE_CHECKING:
    from propetl.runtime.engines import EngineOptions

CPU_PROVIDER = "CPUExecutionProvider"

UNSATURATED = ("session.x64quantprecision", "1")
"""Entry of a session's configuration. x86 CPUs without VNNI add products of unsigned by signed bytes in 16 bits, which
saturate; with this, ONNX Runtime makes both unsigned there, and changes nothing on other CPUs."""

_USUAL_ROWS, _USUAL_TOKENS = 8, 64
_MOST_LABELS = 64
"""Labels that an engine with heads as inputs is built for at least: a task that is added later may have more."""

_PRECISION_FLAGS = {"fp16": "trt_fp16_enable", "bf16": "trt_bf16_enable", "int8": "trt_int8_enable"}


def cpu_options(options: "EngineOptions", graph: GraphInfo, manifest: Manifest, cache: Path | None) -> dict[str, str]:
    """None: what the CPU does is said in the session's options."""
    return {}


def cuda_options(options: "EngineOptions", graph: GraphInfo, manifest: Manifest, cache: Path | None) -> dict[str, str]:
    """CUDA's options.

    By default it rounds float32 products to TF32, ten bits: no answer would be within fp32's tolerance, nor the angles
    of rotary positions, which graphs of half the bits keep in float32.
    """
    chosen = _device(options) | {"use_tf32": "0" if manifest.precision in ("fp32", "fp16", "bf16") else "1"}
    return chosen | ({"arena_extend_strategy": "kSameAsRequested"} if options.memory == "small" else {})


def tensorrt_options(
    options: "EngineOptions", graph: GraphInfo, manifest: Manifest, cache: Path | None
) -> dict[str, str]:
    """TensorRT's options: ranges of shapes, and where engines and timings are kept."""
    assert cache is not None
    folder = _as_text(cache)
    engines = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": folder}
    timing = {"trt_timing_cache_enable": "1", "trt_timing_cache_path": folder}
    precision = _PRECISION_FLAGS.get(manifest.precision)
    ranges = _shape_ranges("trt", graph, manifest, options)
    return _device(options) | ranges | engines | timing | ({precision: "1"} if precision else {})


def rtx_options(options: "EngineOptions", graph: GraphInfo, manifest: Manifest, cache: Path | None) -> dict[str, str]:
    """Options of TensorRT for RTX: ranges of shapes, and where compiled kernels are kept."""
    assert cache is not None
    return _device(options) | _shape_ranges("nv", graph, manifest, options) | {"nv_runtime_cache_path": _as_text(cache)}


def stream_options(provider: OrtProvider, handle: int) -> dict[str, str]:
    """Options that put a provider's work into the stream at address ``handle``."""
    return {**(provider.stream_options or {}), "user_compute_stream": str(handle)}


def _device(options: "EngineOptions") -> dict[str, str]:
    return {"device_id": str(options.device)}


def _as_text(cache: Path) -> str:
    """The folder as providers take it: as text, which not every path is."""
    try:
        os.fspath(cache).encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"engine cache {cache}: its path is not UTF-8, which this provider needs; choose another folder with "
            "--engine-cache"
        ) from error
    return str(cache)


def _shape_ranges(prefix: str, graph: GraphInfo, manifest: Manifest, options: "EngineOptions") -> dict[str, str]:
    """Smallest, usual and largest shapes: without them, a batch larger than any before has its engine built anew."""
    ranges = size_ranges(manifest, options.batch_size)
    return {
        f"{prefix}_profile_{kind}_shapes": _shapes_text(graph, {name: sizes[place] for name, sizes in ranges.items()})
        for place, kind in enumerate(("min", "opt", "max"))
    }


def size_ranges(manifest: Manifest, batch_size: int) -> dict[str, tuple[int, int, int]]:
    """Smallest, usual and largest size of every dimension that a call chooses."""
    widest = max((task.info.outputs for task in manifest.tasks.values()), default=1)
    return {
        BATCH: (1, min(_USUAL_ROWS, batch_size), batch_size),
        SEQUENCE: (1, min(_USUAL_TOKENS, manifest.max_length), manifest.max_length),
        LABELS: (1, widest, max(widest, _MOST_LABELS)),
    }


def _shapes_text(graph: GraphInfo, sizes: Mapping[str, int]) -> str:
    """``input_ids:1x64,attention_mask:1x64,…`` for the inputs that have a free size."""
    free = [item for item in graph.inputs if any(isinstance(size, str) for size in item.shape)]
    return ",".join(
        f"{item.name}:{'x'.join(str(sizes[size] if isinstance(size, str) else size) for size in item.shape)}"
        for item in free
    )
