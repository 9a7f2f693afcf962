"""LoRA's hyper-parameters and tensors."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from propetl import fields
from propetl.errors import ConfigurationError
from propetl.prototypes.method import KAIMING, ZEROS, Method, PrototypeTensor, Widths, check_positive, check_whole

if TYPE_CHECKING:
    from propetl.prototypes.layer import MethodLayer


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """Hyper-parameters of LoRA.

    Attributes:
        rank: rank of the LoRA pair.
        alpha: LoRA's numerator; the branch is scaled by ``alpha / rank``.
        targets: attention projections that get a LoRA pair.
    """

    rank: int = 32
    alpha: float = 48.0
    targets: tuple[str, ...] = ("query", "value")

    @property
    def lora_scale(self) -> float:
        """Factor on the LoRA branch."""
        return self.alpha / self.rank


class Lora(Method[LoraOptions]):
    """A pair (A, B) for each target, beside its projection or merged into it."""

    name = "lora"
    title = "LoRA"
    options = LoraOptions
    learning_rate = 1e-4
    score_learning_rate = 3e-2
    sparsity = 0.1
    mergeable = True
    low_rank_pairs = True
    example = """\
  rank: 32                   # lora: scaled by alpha / rank
  alpha: 48
  targets: [query, value]    #   and key
"""

    def check(self, options: LoraOptions) -> None:
        """Refuses a rank, an alpha or targets that there are not."""
        check_positive(options, "alpha")
        check_whole(options, "rank")
        if not options.targets or not set(options.targets) <= {"query", "key", "value"}:
            raise ConfigurationError(f"targets are among query, key, value; got {fields.shown(list(options.targets))}")
        if len(set(options.targets)) < len(options.targets):
            raise ConfigurationError(f"targets: each once; got {', '.join(options.targets)[:100]}")

    def tensors(self, options: LoraOptions, widths: Widths) -> tuple[PrototypeTensor, ...]:
        """A starts kaiming-uniform and B as zeros, so a fresh branch adds nothing."""
        outputs = {"query": widths.query, "key": widths.key_value, "value": widths.key_value}
        pairs = (
            (
                PrototypeTensor(f"{target}.a", (options.rank, widths.hidden), KAIMING),
                PrototypeTensor(f"{target}.b", (outputs[target], options.rank), ZEROS),
            )
            for target in options.targets
        )
        return tuple(tensor for pair in pairs for tensor in pair)

    def layer(self) -> "MethodLayer":
        """Hooks at the projections."""
        from propetl.prototypes.lora.layer import LoraLayer

        return LoraLayer()
