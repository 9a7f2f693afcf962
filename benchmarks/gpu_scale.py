"""How much ``benchmarks/gpu.sh`` runs: on a GPU, and in a dry run."""

from dataclasses import dataclass

from random_backbone import MINILM, ROBERTA_BASE, Size
from random_texts import SMALL_T5, T5_SMALL, TextSize


@dataclass(frozen=True)
class Scale:
    """How much is run.

    Attributes:
        backbones: by name; None stands for MiniLM's own weights, where they are installed.
        text: of the backbone that generates.
        new_tokens: that it generates for each row.
        batches, sequences: of the benchmark.
        rounds, seconds: of the benchmark.
        train_rows: of the one task that is trained.
        limit: seconds that a step may take.
    """

    backbones: dict[str, Size]
    text: TextSize
    new_tokens: int
    batches: str
    sequences: str
    rounds: int
    seconds: float
    train_rows: int
    limit: int

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(map(int, self.sequences.split(",")))

    @property
    def most_rows(self) -> int:
        """Rows of the largest batch."""
        return max(map(int, self.batches.split(",")))


_REAL = {"minilm": MINILM, "roberta-base": ROBERTA_BASE}
FULL = Scale(_REAL, T5_SMALL, 64, "1,8,32", "16,64,128,384", 5, 0.3, 2000, 3600)
_TINY = {"minilm": Size("bert", 32, 1, 2, 20000), "roberta-base": Size("roberta", 32, 1, 2, 20000)}
DRY = Scale(_TINY, SMALL_T5, 6, "1,2", "8,16", 1, 0.02, 64, 600)
