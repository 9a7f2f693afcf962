"""Losses of tokens: the part that tags and generated text have in common."""

from typing import TYPE_CHECKING

from propetl.problems.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor


class TokenTargets(Problem):
    """A problem whose targets stand at tokens."""

    def summed_loss(self, logits: "Tensor", labels: "Tensor", smoothing: float) -> "Tensor":
        """Of every token that has a label."""
        from propetl.generation import summed_token_loss

        return summed_token_loss(logits, labels, smoothing)

    def targets(self, labels: "Tensor") -> int:
        """Tokens that have a label."""
        from propetl.generation import target_count

        return target_count(labels)
