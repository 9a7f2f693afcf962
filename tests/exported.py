"""Random bundles on tiny backbones, exported: what the tests of the compiler share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from propetl.backbone import Backbone, load_backbone
from propetl.bundle import Bundle, read_bundle, write_bundle
from propetl.export.writer import ExportOptions, export_bundle
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.manifest import Manifest
from tests.tiny_backbone import tiny_backbone
from tests.tiny_bundle import random_contents, sample_rows

ALL_FORMS = ("folded", "switchable", "bank", "bare")

# Tiny models gain nothing from threads, and wait for each other's on a busy machine.
torch.set_num_threads(1)


@dataclass(frozen=True)
class Exported:
    """A bundle and what it was exported to.

    Attributes:
        backbone: that it stands on.
        bundle: random.
        path: the artifact.
        manifest: of the artifact.
        lines: what the exporter reported.
    """

    backbone: Backbone
    bundle: Bundle
    path: Path
    manifest: Manifest
    lines: tuple[str, ...]

    def model(self) -> ProPETLModel:
        """PyTorch's side, from the bundle as it is on disk now."""
        return ProPETLModel.from_bundle(read_bundle(self.bundle.path), self.backbone)

    def token_inputs(self) -> tuple[str, ...]:
        """What the backbone takes."""
        return token_inputs_of(self.backbone)

    def rows(self, rows: int, length: int, seed: int = 0) -> dict[str, NDArray[np.int64]]:
        """Random token ids ``[rows, length]``, with padding where there is room for it."""
        random = np.random.default_rng((seed, rows, length))
        made = sample_rows(random, self.token_inputs(), rows, max(length, 2))
        return {name: np.ascontiguousarray(ids[:, :length], dtype=np.int64) for name, ids in made.items()}


def token_inputs_of(backbone: Backbone) -> tuple[str, ...]:
    """Token inputs that a backbone takes."""
    types = ("token_type_ids",) if backbone.family.takes_token_types else ()
    return ("input_ids", "attention_mask", *types)


def random_bundle(
    root: Path,
    config: PrototypeConfig,
    family: str = "bert",
    tasks: Mapping[str, int] | None = None,
    *,
    head: str = "linear",
    seed: int = 0,
    **sizes: int,
) -> tuple[Backbone, Bundle]:
    """A tiny backbone of ``family`` and a random bundle over it, both in ``root``."""
    backbone = load_backbone(str(tiny_backbone(root / "backbone", family, seed=seed, **sizes)))
    contents = random_contents(
        config,
        backbone.info,
        tasks,
        head=head,
        seed=seed,
        tokenizer=backbone.tokenizer_files,
        token_inputs=token_inputs_of(backbone),
    )
    write_bundle(root / "bundle", contents)
    return backbone, read_bundle(root / "bundle")


def exported(backbone: Backbone, bundle: Bundle, path: Path, options: ExportOptions) -> Exported:
    """``bundle`` exported to ``path``."""
    lines: list[str] = []
    manifest = export_bundle(bundle.path, path, options, lines.append)
    return Exported(backbone, bundle, path, manifest, tuple(lines))


def torch_logits(model: ProPETLModel, task: str, feeds: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    """PyTorch's answer."""
    with torch.no_grad():
        logits = model(task, **{name: torch.from_numpy(ids) for name, ids in feeds.items()}).logits
    found: NDArray[np.float32] = logits.numpy()
    return found
