"""The adapter's hyper-parameters and tensors."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from propetl import fields
from propetl.errors import ConfigurationError
from propetl.prototypes.method import SMALL, ZEROS, Method, PrototypeTensor, Widths, check_one_of, check_whole

if TYPE_CHECKING:
    from propetl.prototypes.layer import MethodLayer

Site = Literal["attention", "ffn"]
Activation = Literal["relu", "gelu", "gelu_new", "tanh", "silu"]


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """Hyper-parameters of the adapter.

    Attributes:
        bottleneck: width of the adapter.
        sites: where the adapter runs: after the FFN (Pfeiffer), or after attention and FFN (Houlsby).
        activation: between the adapter's two projections; ``gelu_new`` is GELU by tanh, as T5 has it.
    """

    bottleneck: int = 32
    sites: tuple[Site, ...] = ("ffn",)
    activation: Activation = "relu"


class Adapter(Method[AdapterOptions]):
    """Two projections with an activation between; weights are masked, biases are shared as they are."""

    name = "adapter"
    title = "an adapter"
    options = AdapterOptions
    learning_rate = 1e-4
    score_learning_rate = 3e-3
    example = """\
  bottleneck: 32             # adapter: its width,
  sites: [ffn]               #   where (or [attention, ffn]),
  activation: relu           #   and relu, gelu, gelu_new, tanh or silu
"""

    def check(self, options: AdapterOptions) -> None:
        """Refuses a width, sites or an activation that there are not."""
        check_one_of("activation", options.activation, get_args(Activation))
        check_whole(options, "bottleneck")
        if options.sites not in (("ffn",), ("attention", "ffn")):
            raise ConfigurationError(f"sites is [ffn] or [attention, ffn]; got {fields.shown(list(options.sites))}")

    def places(self, options: AdapterOptions, attentions: tuple[str, ...]) -> tuple[str, ...]:
        """Its sites, however often the layer attends."""
        return options.sites

    def tensors(self, options: AdapterOptions, widths: Widths) -> tuple[PrototypeTensor, ...]:
        """Weights start as N(0, 0.02), as in BERT, and biases as zeros."""
        width, hidden = options.bottleneck, widths.hidden
        return (
            PrototypeTensor("down.weight", (width, hidden), SMALL),
            PrototypeTensor("down.bias", (width,), ZEROS, masked=False),
            PrototypeTensor("up.weight", (hidden, width), SMALL),
            PrototypeTensor("up.bias", (hidden,), ZEROS, masked=False),
        )

    def layer(self) -> "MethodLayer":
        """Hooks behind the sites."""
        from propetl.prototypes.adapter.layer import AdapterLayer

        return AdapterLayer()
