"""ONNX Runtime's execution providers: their names, what they are installed with, and the options they are given."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from propetl.errors import ConfigurationError
from propetl.runtime.engines import EngineOptions
from propetl.runtime.manifest import GraphInfo, Manifest
from propetl.runtime.signatures import BATCH, LABELS, SEQUENCE

CPU_PROVIDER = "CPUExecutionProvider"

_USUAL_ROWS, _USUAL_TOKENS = 8, 64
_MOST_LABELS = 64
"""Labels that an engine with heads as inputs is built for at least: a task that is added later may have more."""


@dataclass(frozen=True)
class OrtProvider:
    """One execution provider of ONNX Runtime.

    Attributes:
        name: what ONNX Runtime calls it.
        extra: of this project, that installs it.
        on_gpu: whether tensors can be kept in the memory of a CUDA device.
        builds: whether it builds engines for ranges of shapes and keeps them in a folder.
        helpers: providers that may take what it leaves; none of them is the CPU's.
        plugin: package of a provider that is registered at run time.
        libraries: package that loads its shared libraries when imported: pip puts them where no search path leads.
    """

    name: str
    extra: str
    on_gpu: bool = True
    builds: bool = False
    helpers: tuple[str, ...] = ()
    plugin: str | None = None
    libraries: str | None = None


ORT_PROVIDERS = {
    "cpu": OrtProvider(CPU_PROVIDER, "cpu", on_gpu=False),
    "cuda": OrtProvider("CUDAExecutionProvider", "gpu"),
    # Microsoft's advice: CUDA takes what TensorRT's parser refuses, such as the cast of packed masks.
    "tensorrt": OrtProvider(
        "TensorrtExecutionProvider",
        "gpu",
        builds=True,
        helpers=("CUDAExecutionProvider",),
        libraries="tensorrt_libs",
    ),
    "nv-tensorrt-rtx": OrtProvider(
        "NvTensorRTRTXExecutionProvider", "rtx-ep", builds=True, plugin="onnxruntime_ep_nv_tensorrt_rtx"
    ),
}

UNSATURATED = ("session.x64quantprecision", "1")
"""Entry of a session's configuration. x86 CPUs without VNNI add products of unsigned by signed bytes in 16 bits, which
saturate; with this, ONNX Runtime makes both unsigned there, and changes nothing on other CPUs."""

_SLOWER_ON_CPU = frozenset({"SkipLayerNormFusion"})

_PREFIXES = {"TensorrtExecutionProvider": "trt", "NvTensorRTRTXExecutionProvider": "nv"}
_PRECISION_FLAGS = {"fp16": "trt_fp16_enable", "bf16": "trt_bf16_enable", "int8": "trt_int8_enable"}


def slower_optimizers(provider: OrtProvider) -> frozenset[str]:
    """Optimisers of ONNX Runtime (1.31.1) that make graphs slower there.

    Its operator for a sum and a normalisation takes 200 us for 128 rows of 384 numbers on one core, the two that it
    replaces 33 us.
    """
    return frozenset() if provider.on_gpu else _SLOWER_ON_CPU


def provider_options(
    name: str, options: EngineOptions, graph: GraphInfo, manifest: Manifest, cache: Path | None
) -> dict[str, str]:
    """Options of the execution provider called ``name``, as ONNX Runtime takes them.

    Args:
        name: ONNX Runtime's name of it.
        options: what the user asked for.
        graph: what is going to be loaded.
        manifest: of its artifact.
        cache: folder for engines, for a provider that builds them.
    """
    if name == CPU_PROVIDER:
        return {}
    chosen = {"device_id": str(options.device)}
    if name == "CUDAExecutionProvider":
        # By default CUDA rounds float32 products to TF32, ten bits: no answer would be within fp32's tolerance, nor the
        # angles of rotary positions, which graphs of half the bits keep in float32.
        chosen["use_tf32"] = "0" if manifest.precision in ("fp32", "fp16", "bf16") else "1"
        if options.memory == "small":
            chosen["arena_extend_strategy"] = "kSameAsRequested"
        return chosen
    assert cache is not None
    return chosen | _shape_ranges(_PREFIXES[name], graph, manifest, options) | _caching(name, manifest, cache)


def stream_options(name: str, handle: int) -> dict[str, str]:
    """Options that put a provider's work into the stream at address ``handle``."""
    told = {"has_user_compute_stream": "1"} if name == "NvTensorRTRTXExecutionProvider" else {}
    return told | {"user_compute_stream": str(handle)}


def _caching(name: str, manifest: Manifest, cache: Path) -> dict[str, str]:
    folder = _as_text(cache)
    if name == "NvTensorRTRTXExecutionProvider":
        return {"nv_runtime_cache_path": folder}
    flags = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": folder}
    timing = {"trt_timing_cache_enable": "1", "trt_timing_cache_path": folder}
    precision = _PRECISION_FLAGS.get(manifest.precision)
    return flags | timing | ({precision: "1"} if precision else {})


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


def _shape_ranges(prefix: str, graph: GraphInfo, manifest: Manifest, options: EngineOptions) -> dict[str, str]:
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
