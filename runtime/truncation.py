"""How many rows were longer than a model reads."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from propetl.runtime.tokenise import TokenRow


@dataclass(frozen=True)
class Truncated:
    """Rows that were tokenised.

    Attributes:
        rows: how many.
        truncated: those of them that lost tokens.
        longest: tokens of the longest row before it was truncated, special ones included; 0 without rows. An
            estimate where a text is longer than :data:`~propetl.runtime.shortening.WHOLE` letters.
    """

    rows: int = 0
    truncated: int = 0
    longest: int = 0

    @property
    def share(self) -> float:
        """The share of rows that were truncated; 0 without rows."""
        return self.truncated / self.rows if self.rows else 0.0

    def line(self, max_length: int) -> str:
        """For people, of rows some of which were truncated."""
        return (
            f"{self.truncated} of {self.rows} rows ({self.share:.1%}) are longer than max_length {max_length} and were "
            f"truncated; the longest has {self.longest} tokens"
        )


class Truncation:
    """Counts rows, from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found = Truncated()

    def add(self, rows: "Iterable[TokenRow]") -> None:
        """Counts rows that were just tokenised."""
        lengths = [(len(row) + row.cut, row.cut > 0) for row in rows]
        longest = max((length for length, _ in lengths), default=0)
        cut = sum(was_cut for _, was_cut in lengths)
        with self._lock:
            before = self._found
            self._found = Truncated(
                before.rows + len(lengths), before.truncated + cut, max(before.longest, longest)
            )

    @property
    def found(self) -> Truncated:
        """The counts so far."""
        return self._found
