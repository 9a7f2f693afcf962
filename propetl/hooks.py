"""Makes a backbone use a prototype, by forward hooks: its code and its weights stay as they are."""

import itertools
from collections import defaultdict
from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from propetl.families import Family
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.layer import Current, HookedLayer
from propetl.prototypes.spec import PrototypeConfig


def attach(
    model: PreTrainedModel,
    family: Family,
    config: PrototypeConfig,
    current: Current,
    *,
    merge: bool = False,
) -> None:
    """Hooks ``config.method`` into every layer of ``model``. Slots are numbered stack by stack, encoder first.

    Args:
        model: the backbone, as :func:`propetl.backbone.load_backbone` loads it.
        family: where things are in it.
        config: the method.
        current: called at every slot for the weights to use.
        merge: compute the method as part of the backbone's matrices instead of beside them, where it can be.

    Raises:
        ConfigurationError: the method cannot run in this family.
    """
    method = config.specification.layer()
    used: dict[str, int] = defaultdict(int)  # slots, by prototype
    numbers: dict[str, Iterator[int]] = defaultdict(itertools.count)  # of layers, by prototype
    for number, stack in enumerate(family.stacks):
        prototype = config.prototype_of(number)
        here, places = _only(prototype, current), len(config.places(len(stack.attentions)))
        layers = model.get_submodule(stack.layers)
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            slots = range(used[prototype], used[prototype] + places)
            method.attach(HookedLayer(layer, family, stack, next(numbers[prototype]), slots, config, here, merge))
            used[prototype] = slots.stop
    method.finish(model, family)


def _only(prototype: str, current: Current) -> Current:
    """``current`` with the weights of one prototype alone; as it is where there is only one."""
    if not prototype:
        return current

    def weights() -> EffectiveWeights | None:
        every = current()
        return None if every is None else every.of(prototype)

    return weights
