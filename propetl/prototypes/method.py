"""The specification of a method: plain data that loads no torch, for training, the compiler and the device."""

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from propetl import fields
from propetl.errors import ConfigurationError

if TYPE_CHECKING:  # the layer needs torch, which a device does not have
    from propetl.prototypes.layer import MethodLayer

Initial = tuple[Literal["constant", "normal", "uniform"], float]
"""How a tensor starts: a value; N(0, standard deviation); or uniform in ``±value / sqrt(last axis)``."""

ZEROS: Initial = ("constant", 0.0)
SMALL: Initial = ("normal", 0.02)
KAIMING: Initial = ("uniform", 1.0)

Options = TypeVar("Options")


@dataclass(frozen=True)
class Widths:
    """Widths of a backbone.

    Attributes:
        hidden: of its hidden states.
        query: of all heads' queries together.
        key_value: the same of keys and of values.
        ffn: of the FFN's inner values; None where layers differ in it.
    """

    hidden: int
    query: int
    key_value: int
    ffn: int | None = None


@dataclass(frozen=True)
class PrototypeTensor:
    """One tensor of a method.

    Attributes:
        name: as in files and graphs, such as ``down.weight``.
        shape: at one slot.
        initial: how it starts.
        masked: whether masks apply to it; what is not masked is shared as it is.
        once_a_layer: whether it runs at one slot of each layer, the last one, and not at all of them.
    """

    name: str
    shape: tuple[int, ...]
    initial: Initial = SMALL
    masked: bool = True
    once_a_layer: bool = False


class Method(Generic[Options]):
    """The specification of one method. :data:`propetl.prototypes.registry.METHODS` lists one object of each.

    A masked weight runs as zero, so tensors are stored such that zero stands for "not there".

    Attributes:
        name: in configurations and bundles.
        title: in sentences.
        options: dataclass of its hyper-parameters; None if it has none.
        learning_rate: default of everything but the scores.
        score_learning_rate: default of the scores.
        sparsity: default share of weights that a mask keeps.
        baseline: whether it attaches nothing, and is there to compare with.
        trains_backbone: whether it changes the backbone's own weights.
        mergeable: whether the weights of a folded task can become part of the backbone's matrices.
        low_rank_pairs: whether its tensors are ``TARGET.a`` and ``TARGET.b`` for each of ``targets``, whose product is
            scaled by ``alpha / rank``: what PEFT stores as a LoRA.
        example: lines of a configuration that show the hyper-parameters, two blanks in front.
    """

    name: str
    title: str
    options: type[Any] | None = None
    learning_rate: float
    score_learning_rate: float
    sparsity: float = 0.5
    baseline: bool = False
    trains_backbone: bool = False
    mergeable: bool = False
    low_rank_pairs: bool = False
    example: str = ""

    def check(self, options: Options) -> None:
        """Refuses hyper-parameters that make no sense.

        Raises:
            ConfigurationError: naming the key.
        """

    def places(self, options: Options, attentions: tuple[str, ...]) -> tuple[str, ...]:
        """Names of one layer's slots, in their order; ``attentions`` are ``self``, and ``cross`` where there is one."""
        return attentions

    def tensors(self, options: Options, widths: Widths) -> tuple[PrototypeTensor, ...]:
        """Tensors of one prototype, in the order of files and of initial draws; none if nothing is attached."""
        return ()

    def layer(self) -> "MethodLayer":
        """The part that needs torch: how it hooks into a backbone, and what trains."""
        from propetl.prototypes.layer import MethodLayer

        return MethodLayer()


def check_whole(options: object, *keys: str) -> None:
    """Refuses hyper-parameters that are no whole number of at least 1."""
    for key in keys:
        value = getattr(options, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigurationError(f"{key} must be a whole number of at least 1; got {value!r}")


def check_positive(options: object, key: str) -> None:
    """Refuses a hyper-parameter that is no positive number."""
    value = getattr(options, key)
    if not 0.0 < value < inf:
        raise ConfigurationError(f"{key} must be a positive number; got {value}")


def check_one_of(key: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuses a value that is not among those ``allowed``."""
    if value not in allowed:
        raise ConfigurationError(f"{key} is one of {', '.join(allowed)}; got {fields.shown(value)}")
