"""The one file in which the reference saves T5: prototypes, task masks and layer masks, each shared tensor once."""

import re
from dataclasses import dataclass
from itertools import chain
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
        places: of each prototype, by what its tensors' names start with, the path of the adapter's module in each of
            its slots: of one for all blocks, the encoder's first; or of one for the encoder and one for the decoder.
    """

    checkpoint: Checkpoint
    adapter: str
    tasks: tuple[str, ...]
    hybrid: bool
    places: dict[str, tuple[str, ...]]

    def prototype(self) -> dict[str, Tensor]:
        """The tensors that slots share; the file holds them in the first one."""
        names = {f"{part}.{kind}": f"{part}_sampler.{kind}" for part in _PARTS for kind in ("weight", "bias")}
        return {
            prototype + tensor: self.checkpoint.take(f"{places[0]}.adapters.{self.adapter}.{name}")
            for prototype, places in self.places.items()
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
        """The one mask of ``task`` for all slots, by tensor; encoder and decoder share it also between prototypes."""
        masks = self._masks(self._first, task)
        return {prototype + tensor: mask for prototype in self.places for tensor, mask in masks.items()}

    def slot_masks(self, name: str) -> dict[str, list[Tensor]]:
        """The masks of ``name`` (a task, or :data:`LAYER`) in each slot, by tensor.

        The mask of encoder block 0 as a layer is the last task's own mask: in the reference's code they are one
        tensor under two names, and the file holds it once, under the task's.
        """
        found: dict[str, list[Tensor]] = {}
        for prototype, places in self.places.items():
            for place in places:
                for tensor, mask in self._masks(place, self._name_at(place, name)).items():
                    found.setdefault(prototype + tensor, []).append(mask)
        return found

    @property
    def _first(self) -> str:
        """Encoder block 0."""
        return next(iter(self.places.values()))[0]

    def _name_at(self, place: str, name: str) -> str:
        missing = self._mask_name(place, name, "down") not in self.checkpoint
        return self.tasks[-1] if name == LAYER and place == self._first and missing else name

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
    each = any(".adapters." in name and name.startswith("decoder.") for name in checkpoint.tensors)
    return T5Weights(checkpoint, adapters[0], tasks, hybrid, _places(backbone, each))


def _places(backbone: BackboneInfo, each: bool) -> dict[str, tuple[str, ...]]:
    """After the feed-forward network: the second sub-layer of an encoder's block, the third of a decoder's."""
    stacks = (("encoder", backbone.layers, 1), ("decoder", backbone.decoder_layers, 2))
    places = {
        f"{stack}.": tuple(f"{stack}.block.{block}.layer.{place}.adapter_controller" for block in range(count))
        for stack, count, place in stacks
    }
    return places if each else {"": tuple(chain.from_iterable(places.values()))}


def _check_shared(checkpoint: Checkpoint) -> None:
    """Refuses weights of an adapter anywhere but in the first block of a stack."""
    for name in checkpoint.tensors:
        if ".adapters." in name and not name.startswith(("encoder.block.0.layer.1.", "decoder.block.0.layer.2.")):
            raise BundleError(
                f"{checkpoint.source}: {name}: only an adapter that all blocks of encoder and decoder share, or "
                "one for each of the two, after the feed-forward network, can be imported"
            )
