"""Text as it is generated: each new token becomes the piece of text that it completes."""

from collections.abc import Callable

from propetl.runtime.generation.options import SpecialTokens
from propetl.runtime.generation.steps import Tokens
from propetl.runtime.text_pieces import TextPieces
from propetl.runtime.tokenise import Tokeniser

OnText = Callable[[int, str], None]
"""Receives the place of a row in the call, and the next piece of its text."""


class TextStream:
    """Hands on the texts of one batch, piece by piece; the pieces of a row together are its whole text."""

    def __init__(self, tokeniser: Tokeniser, special: SpecialTokens, places: Tokens, on_text: OnText) -> None:
        """``places`` of the batch's rows in the call, int64 ``[rows]``."""
        self._ends = frozenset(special.ends)
        self._on_text = on_text
        self._open: dict[int, tuple[int, TextPieces]] = {
            row: (place, TextPieces(tokeniser)) for row, place in enumerate(places.tolist())
        }

    def __call__(self, tokens: Tokens) -> None:
        """Takes up the next token of every row, int64 ``[rows]``."""
        for row, token in enumerate(tokens.tolist()):
            if row in self._open:
                place, pieces = self._open[row]
                self._say(place, pieces.add(token))
                if token in self._ends:
                    self._finish(row)

    def close(self) -> None:
        """Hands on what rows that did not end were holding back."""
        for row in list(self._open):
            self._finish(row)

    def _finish(self, row: int) -> None:
        place, pieces = self._open.pop(row)
        self._say(place, pieces.rest())

    def _say(self, place: int, piece: str) -> None:
        if piece:
            self._on_text(place, piece)
