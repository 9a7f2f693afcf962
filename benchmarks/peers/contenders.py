"""What is compared: how each contender is started, where its files are, and what its method scores."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ratios import Bench
from side_by_side import EAGER, WORKER, Runtime

from peers import TASKS

LORA, ADAPTER, FINE_TUNED = "LoRA, unshared", "adapter, unshared", "full fine-tuning"
MASKS = "ProAdapter, hybrid masks (or), joint"

PEFT, ADAPTERHUB, GRAPHS = "peers.peft_worker", "peers.adapterhub_worker", "peers.graphs_worker"

Files = tuple[str, ...]
"""Patterns below a folder; what hard links share is counted once."""

_SHARED: Files = ("artifact.json", "backbone.data", "tokenizer/*")
_FOLDED: Files = (*_SHARED, "folded/*/model.onnx")
_STAGED: Files = (*_SHARED, "stages/**/*", "tasks/*")
_BACKBONE = "model.safetensors"


@dataclass(frozen=True)
class Contender:
    """One row of the report.

    Attributes:
        title: for tables.
        files: what ten tasks need, below the folder of its artifact or of what peers exported.
        method: as ``examples/real_run.py`` calls it; "" where nothing is trained.
        artifact: ours: gives the artifact, or the bundle for PyTorch.
        form: ours: that runs.
        module: of the worker.
        environment: of a peer.
        with_backbone: its files go beside the backbone's own weights.
        copies: how often its files are needed.
        quantised: precision, where it costs answers.
        tasks: whether it tells tasks apart.
    """

    title: str
    files: Files
    method: str = ""
    artifact: Callable[[Bench], Path] | None = None
    form: str = ""
    module: str = WORKER
    environment: str = ""
    with_backbone: bool = False
    copies: int = 1
    quantised: str = ""
    tasks: bool = True


def _ours(title: str, form: str, files: Files, artifact: Callable[[Bench], Path], quantised: str = "") -> Contender:
    return Contender(title, files, MASKS, artifact, form, quantised=quantised)


def _whole(bench: Bench) -> Path:
    return bench.artifact


CONTENDERS = {
    "folded": _ours("ProPETL folded", "folded", _FOLDED, _whole),
    "switchable": _ours("ProPETL switchable", "switchable", (*_STAGED, "switchable/*"), _whole),
    "bank": _ours("ProPETL bank", "bank", (*_STAGED, "bank/*"), _whole),
    "fused": _ours("ProPETL folded, --operators onnxruntime", "folded", _FOLDED, lambda bench: bench.fused),
    "tuned": _ours("ProPETL folded, --tune cpu", "folded", (*_FOLDED, "tuned/**/*"), lambda bench: bench.tuned),
    "int8": _ours("ProPETL folded, --quantize int8", "folded", _FOLDED, lambda bench: bench.int8, "int8"),
    "bare": Contender(
        "ProPETL's export without adapter",
        (*_SHARED, "bare/*"),
        artifact=_whole,
        form="bare",
        tasks=False,
    ),
    "propetl-eager": Contender(
        "ProPETL in PyTorch eager",
        ("**/*",),
        MASKS,
        artifact=lambda bench: bench.bundle,
        form="eager",
        module=EAGER,
        with_backbone=True,
    ),
    "eager": Contender(
        "PyTorch eager, no adapter", (), module=PEFT, environment="peft", with_backbone=True, tasks=False
    ),
    "compiled": Contender(
        "torch.compile, no adapter", (), module=PEFT, environment="peft", with_backbone=True, tasks=False
    ),
    "peft": Contender(
        "PEFT LoRA in PyTorch, adapter_names", ("peft/**/*",), LORA, module=PEFT, environment="peft", with_backbone=True
    ),
    "peft-merged": Contender(
        "PEFT LoRA merged, a graph per task, ONNX Runtime",
        ("peft-merged-*.onnx",),
        LORA,
        module=GRAPHS,
        environment="peft",
    ),
    "ort-adapters": Contender(
        "ONNX Runtime LoRA adapters (Olive's conversion)",
        ("ort-adapters.onnx", "*.onnx_adapter"),
        LORA,
        module=GRAPHS,
        environment="peft",
    ),
    "adapterhub": Contender(
        "AdapterHub adapters in PyTorch",
        ("adapterhub/**/*",),
        ADAPTER,
        module=ADAPTERHUB,
        environment="adapters",
        with_backbone=True,
    ),
    **{
        f"optimum-{level}": Contender(
            f"optimum-onnx {title}",
            (f"optimum-{level}/{name}.onnx",),
            FINE_TUNED,
            module=GRAPHS,
            environment="optimum",
            copies=len(TASKS),
            quantised=quantised,
        )
        for level, title, name, quantised in (
            ("o1", "O1, a graph per task", "model_optimized", ""),
            ("o2", "O2", "model_optimized", ""),
            ("o3", "O3 (GELU approximated)", "model_optimized", ""),
            ("int8", "int8, dynamic", "model_quantized", "optimum-int8"),
        )
    },
}


def runtime_of(name: str, bench: Bench, backbone: Path, environments: str) -> Runtime:
    """How the contender is started; its artifact is made if it is not there."""
    contender = CONTENDERS[name]
    if contender.artifact is None:
        python = f"{environments}{contender.environment}/bin/python"
        return Runtime(backbone, name, contender.module, python)
    return Runtime(contender.artifact(bench), contender.form, contender.module)


def disk_bytes(name: str, bench: Bench, backbone: Path, exported: Path) -> int:
    """What its files for ten tasks take; ``exported`` is the folder where peers leave theirs."""
    contender = CONTENDERS[name]
    folder = contender.artifact(bench) if contender.artifact else exported
    paths = [path for pattern in contender.files for path in folder.glob(pattern) if path.is_file()]
    if contender.with_backbone:
        paths.append(backbone / _BACKBONE)
    by_file = {path.stat().st_ino: path.stat().st_size for path in paths}
    return contender.copies * sum(by_file.values())
