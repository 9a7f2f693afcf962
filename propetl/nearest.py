"""Names the known word that an unknown one most likely stands for."""

import difflib
from collections.abc import Iterable

_SHOWN = 40


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """For the end of a message that lists ``known``: ``; did you mean 'columns'?``, or nothing where none is near.

    Capitals, dashes and underscores make no difference.
    """
    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(_folded(name), name)
    close = difflib.get_close_matches(_folded(word), folded, n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """For a message that lists nothing: ``did you mean 'columns'?``, or all ``known`` words where none is near."""
    words = list(dict.fromkeys(known))
    hint = did_you_mean(word, words)
    more = f", … ({len(words)} in all)" if len(words) > _SHOWN else ""
    return hint.removeprefix("; ") or f"known: {', '.join(words[:_SHOWN]) or 'none'}{more}"


def _folded(word: str) -> str:
    return word.strip().casefold().replace("-", "_").replace(" ", "_")
