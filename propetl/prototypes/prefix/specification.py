"""The prefix's hyper-parameters and its tensor."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from propetl.prototypes.method import SMALL, Method, PrototypeTensor, Widths, check_whole

if TYPE_CHECKING:
    from propetl.prototypes.layer import MethodLayer


@dataclass(frozen=True, kw_only=True)
class PrefixOptions:
    """Hyper-parameters of prefix tuning.

    Attributes:
        prefix_length: prefix vectors per layer.
        prefix_hidden: width of the MLP that makes the prefix while training.
    """

    prefix_length: int = 64
    prefix_hidden: int = 512


class Prefix(Method[PrefixOptions]):
    """One table of keys and values for each attention; an MLP makes it while it trains."""

    name = "prefix"
    title = "a prefix"
    options = PrefixOptions
    learning_rate = 1e-4
    score_learning_rate = 1e-4
    sparsity = 0.1
    example = """\
  prefix_length: 64          # prefix, made by an MLP of width
  prefix_hidden: 512
"""

    def check(self, options: PrefixOptions) -> None:
        """Refuses lengths that there are not."""
        check_whole(options, "prefix_length", "prefix_hidden")

    def tensors(self, options: PrefixOptions, widths: Widths) -> tuple[PrototypeTensor, ...]:
        """Keys in the first half of the columns, values in the second."""
        return (PrototypeTensor("prefix", (options.prefix_length, 2 * widths.key_value), SMALL),)

    def layer(self) -> "MethodLayer":
        """Hooks at the attentions."""
        from propetl.prototypes.prefix.layer import PrefixLayer

        return PrefixLayer()
