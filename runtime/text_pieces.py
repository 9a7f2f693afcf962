"""One text, token by token, as it is generated."""

import unicodedata
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from propetl.runtime.tokenise import Tokeniser


class TextPieces:
    """One text, token by token: what is sure not to change with the tokens that follow."""

    def __init__(self, tokeniser: "Tokeniser") -> None:
        self._tokeniser = tokeniser
        self._tokens: list[int] = []
        self._said = ""

    def add(self, token: int) -> str:
        """The text that ``token`` completes, often none: a word may go on; what is written without blanks may not."""
        self._tokens.append(token)
        text = self._text()
        whole = bool(text) and unicodedata.east_asian_width(text[-1]) == "W"
        return self._say(text if whole else text[: _last_blank(text) + 1])

    def rest(self) -> str:
        """The rest that was held back."""
        return self._say(self._text())

    def _text(self) -> str:
        return self._tokeniser.decode(np.array(self._tokens, dtype=np.int64))

    def _say(self, text: str) -> str:
        if not text.startswith(self._said):
            return ""
        piece = text[len(self._said) :]
        self._said = text
        return piece


def _last_blank(text: str) -> int:
    return max((place for place, letter in enumerate(text) if letter.isspace()), default=-1)
