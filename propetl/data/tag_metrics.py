"""Metrics of tags: of entities by seqeval, as CoNLL-2000 and CoNLL-2003 count them, and of words."""

from collections.abc import Callable, Sequence
from functools import partial

from propetl.errors import ConfigurationError, MissingExtraError
from propetl.problems.tagging import ENTITY_METRICS

Tags = Sequence[Sequence[str]]

def scored_tags(predictions: Sequence[Sequence[str | None]], labels: Tags) -> tuple[Tags, Tags]:
    """Predicted and wanted tags of the words that have a prediction: those without tokens have none.

    Raises:
        ConfigurationError: no word has one.
        ValueError: rows differ in their numbers of words.
    """
    rows = [list(zip(found, wanted, strict=True)) for found, wanted in zip(predictions, labels, strict=True)]
    kept = [[(found, wanted) for found, wanted in row if found is not None] for row in rows]
    if not any(kept):
        raise ConfigurationError("no word has a token, so there is no tag to score: raise max_length")
    return [[found for found, _ in row] for row in kept], [[wanted for _, wanted in row] for row in kept]


def _entities(kind: str, found: Tags, wanted: Tags) -> float:
    """An entity counts as found where its type and both of its ends are right; 0 where there is none."""
    try:
        from seqeval import metrics
    except ImportError as error:
        raise MissingExtraError(f"the metric entity_{kind}", "seqeval", "train") from error
    score: Callable[..., float] = getattr(metrics, f"{kind}_score")
    return float(score(wanted, found, zero_division=0))


def _word_accuracy(found: Tags, wanted: Tags) -> float:
    """Share of words with the right tag."""
    pairs = [pair for row in zip(found, wanted, strict=True) for pair in zip(*row, strict=True)]
    return sum(one == other for one, other in pairs) / len(pairs)


OF_TAGS: dict[str, Callable[[Tags, Tags], float]] = {
    **{name: partial(_entities, name.removeprefix("entity_")) for name in ENTITY_METRICS},
    "word_accuracy": _word_accuracy,
}
"""Metric -> function of the predicted and the wanted tags, row by row."""
