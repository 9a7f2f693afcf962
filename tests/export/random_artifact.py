"""Random bundles of every method and family, exported: what the equality of forms is tested on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from propetl.backbone import Backbone, load_backbone
from propetl.bundle import Bundle, read_bundle, write_bundle
from propetl.export.golden import text_inputs_of
from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.manifest import Manifest
from tests.tiny_backbone import TEXT_VOCABULARY, tiny_backbone
from tests.tiny_bundle import Outputs, random_contents

ALL_FORMS = ("folded", "switchable", "bank")
TASKS = {"value": 0, "two": 2, "five": 5}

# Tiny models gain nothing from threads, and wait for each other's on a busy machine.
torch.set_num_threads(1)


@dataclass(frozen=True)
class Case:
    """One random bundle: every field is chosen so that all values of all fields occur with the methods."""

    family: str
    config: PrototypeConfig
    head: str = "linear"
    hidden: int = 24
    layers: int = 2
    tasks: Mapping[str, Outputs] = field(default_factory=lambda: TASKS)

    def __str__(self) -> str:
        config = self.config
        kind = "-".join(
            [config.masks, config.combine, *config.languages] if config.masks == "hybrid" else [config.masks]
        )
        method = f"{config.method}-{config.sharing}-{kind}-{len(config.sites)}"
        return f"{self.family}-{method}-{self.head}-{self.hidden}x{self.layers}"


@dataclass(frozen=True)
class Exported:
    """A random bundle, the torch model it stands for, and its artifact.

    Attributes:
        bundle: as it was exported.
        backbone: that it stands on.
        model: PyTorch's side.
        artifact: its folder.
        manifest: of the artifact.
        lines: what the exporter reported.
    """

    bundle: Bundle
    backbone: Backbone
    model: ProPETLModel
    artifact: Path
    manifest: Manifest
    lines: tuple[str, ...]

    def inputs(self, rows: int, length: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Random rows for this backbone."""
        return random_inputs(text_inputs_of(self.model), seed, rows, length)

    def logits(self, task: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """PyTorch's answer."""
        return torch_logits(self.model, task, inputs)


def make(folder: Path, case: Case, options: ExportOptions) -> Exported:
    """Draws, writes and exports the bundle of ``case``."""
    backbone, bundle = random_bundle(folder, case)
    return export(backbone, bundle, folder / "artifact", options)


def random_bundle(folder: Path, case: Case, scaled: Mapping[str, float] | None = None) -> tuple[Backbone, Bundle]:
    """Draws and writes backbone and bundle of ``case``; tensors whose names end as ``scaled`` says are multiplied."""
    path = tiny_backbone(folder / "backbone", case.family, hidden=case.hidden, layers=case.layers)
    scale_weights(path, scaled or {})
    backbone = load_backbone(str(path))
    inputs = text_inputs_of(ProPETLModel(backbone, case.config, case.head))
    contents = random_contents(
        case.config,
        backbone.info,
        case.tasks,
        head=case.head,
        seed=len(str(case)),
        tokenizer=backbone.tokenizer_files,
        token_inputs=inputs,
    )
    write_bundle(folder / "bundle", contents)
    return backbone, read_bundle(folder / "bundle")


def scale_weights(backbone: Path, factors: Mapping[str, float]) -> None:
    """Multiplies the saved weights whose names end so."""
    file = backbone / "model.safetensors"
    weights = load_file(file)
    for ending, factor in factors.items():
        found = [name for name in weights if name.endswith(ending)]
        assert found, ending
        weights |= {name: factor * weights[name] for name in found}
    save_file(weights, file, {"format": "pt"})


def write_rows(folder: Path, bundle: Bundle, split: str = "dev", text: str = "a man is not good") -> Path:
    """Rows of every task as ``--data`` takes them: ``folder/TASK/SPLIT.jsonl``, one for each class."""
    for task, info in bundle.info.tasks.items():
        path = folder / task / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = dict.fromkeys(info.columns, text)
        rows = [json.dumps({**texts, info.label_column: label}) for label in info.labels or (0.5, 1.5)]
        path.write_text("".join(f"{row}\n" for row in rows), "utf-8")
    return folder


def export(backbone: Backbone, bundle: Bundle, path: Path, options: ExportOptions) -> Exported:
    """Exports ``bundle`` to ``path``."""
    lines: list[str] = []
    manifest = export_bundle(bundle.path, path, options, lines.append)
    return Exported(bundle, backbone, ProPETLModel.from_bundle(bundle, backbone), path, manifest, tuple(lines))


def torch_logits(model: ProPETLModel, task: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """``model`` on token ids."""
    with torch.no_grad():
        return model(task, **{name: torch.from_numpy(array) for name, array in inputs.items()}).logits.numpy()


def random_inputs(names: tuple[str, ...], seed: int, rows: int, length: int) -> dict[str, np.ndarray]:
    """Token ids with padding of any length behind, at least one real token in each row."""
    random = np.random.default_rng(seed)
    mask = (np.arange(length) < random.integers(1, length + 1, size=(rows, 1))).astype(np.int64)
    every = {
        "input_ids": random.integers(5, len(TEXT_VOCABULARY), size=(rows, length)) * mask,
        "attention_mask": mask,
        "token_type_ids": random.integers(0, 2, size=(rows, length)) * mask,
    }
    return {name: every[name] for name in names}
