"""The one file in which the reference saves T5: prototype, task masks and layer masks, each shared tensor once."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from propetl.bundle.format import BackboneInfo
from propetl.errors import BundleError
from propetl.reference_import.checkpoint import Checkpoint, read_checkpoint

WEIGHTS_FILE = "propetl_weight.bin"

LAYER = "layer"
"""Under this name, where tasks stand, the file holds the mask of a layer."""

_ADAPTER = re.compile(r"encoder\.block\.0\.layer\.1\.adapter_controller\.adapters\.(.+)\.down_sampler\.weight")
_MASK = re.compile(r"encoder\.block\.(\d+)\.layer\.1\.adapter_controller\.mask_scores\.(.+)_down_mask\.param")

_PARTS = ("down", "up")


@dataclass(frozen=True, eq=False)
class T5Weights:
    """What stands in the file.

    Attributes:
        checkpoint: its tensors.
        adapter: name of the adapter, ``common_adapter`` in the published runs.
        tasks: in the order of training.
        hybrid: whether there is a mask per layer and one per task; else each task has a mask in every layer.
        places: path of the adapter's module in each slot, the encoder's blocks first.
    """

    checkpoint: Checkpoint
    adapter: str
    tasks: tuple[str, ...]
    hybrid: bool
    places: tuple[str, ...]

    def prototype(self) -> dict[str, Tensor]:
        """The tensors that all slots share."""
        names = {f"{part}.{kind}": f"{part}_sampler.{kind}" for part in _PARTS for kind in ("weight", "bias")}
        return {
            tensor: self.checkpoint.take(f"{self.places[0]}.adapters.{self.adapter}.{name}")
            for tensor, name in names.items()
        }

    @property
    def holds_scores(self) -> bool:
        """Whether masks stand there as float scores."""
        return any(
            ".mask_scores." in name and value.is_floating_point() for name, value in self.checkpoint.tensors.items()
        )

    def unused(self) -> list[str]:
        """Tensors that nobody took, with their file."""
        return [f"{self.checkpoint.source.name}: {name}" for name in self.checkpoint.unused()]

    def task_masks(self, task: str) -> dict[str, Tensor]:
        """The one mask of ``task`` for all slots, by tensor."""
        return self._masks(self.places[0], task)

    def slot_masks(self, name: str) -> dict[str, list[Tensor]]:
        """The masks of ``name`` (a task, or :data:`LAYER`) in each slot, by tensor.

        The mask of encoder block 0 as a layer is the last task's own mask: in the reference's code they are one
        tensor under two names, and the file holds it once, under the task's.
        """
        masks = [self._masks(place, self._name_at(slot, name)) for slot, place in enumerate(self.places)]
        return {tensor: [mask[tensor] for mask in masks] for tensor in masks[0]}

    def _name_at(self, slot: int, name: str) -> str:
        first = self._mask_name(self.places[0], name, "down")
        return self.tasks[-1] if name == LAYER and slot == 0 and first not in self.checkpoint else name

    def _masks(self, place: str, name: str) -> dict[str, Tensor]:
        return {f"{part}.weight": self.checkpoint.take(self._mask_name(place, name, part)) for part in _PARTS}

    def _mask_name(self, place: str, name: str, part: str) -> str:
        return f"{place}.mask_scores.{name}_{part}_mask.param"


def read_t5_weights(path: Path, backbone: BackboneInfo) -> T5Weights:
    """Reads the file ``path``, which was trained on ``backbone``.

    Raises:
        BundleError: it is damaged, of another layout, or of a backbone with another number of blocks.
    """
    checkpoint = read_checkpoint(path)
    adapters = [found[1] for found in map(_ADAPTER.fullmatch, checkpoint.tensors) if found]
    masks = [(int(found[1]), found[2]) for found in map(_MASK.fullmatch, checkpoint.tensors) if found]
    if len(adapters) != 1 or not masks:
        raise BundleError(
            f"{path}: {len(adapters)} adapters and {len(masks)} masks in the encoder; expected one adapter (in block 0 "
            "alone, as it is shared) and masks"
        )
    _check_shared(checkpoint)
    hybrid = any(name == LAYER for _, name in masks)
    tasks = tuple(name for block, name in masks if block == 0 and name != LAYER)
    return T5Weights(checkpoint, adapters[0], tasks, hybrid, tuple(_places(backbone)))


def _places(backbone: BackboneInfo) -> Iterator[str]:
    """After the feed-forward network: the second sub-layer of an encoder's block, the third of a decoder's."""
    for stack, count, place in (("encoder", backbone.layers, 1), ("decoder", backbone.decoder_layers, 2)):
        for block in range(count):
            yield f"{stack}.block.{block}.layer.{place}.adapter_controller"


def _check_shared(checkpoint: Checkpoint) -> None:
    """Refuses weights of an adapter anywhere but in encoder block 0."""
    for name in checkpoint.tensors:
        if ".adapters." in name and not name.startswith("encoder.block.0.layer.1."):
            raise BundleError(
                f"{checkpoint.source}: {name}: only one adapter shared by encoder and decoder, after the feed-forward "
                "network, can be imported"
            )
