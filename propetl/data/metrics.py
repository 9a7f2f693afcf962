"""GLUE's metrics, from scikit-learn and scipy, and those of generated texts and of tags, as plain floats."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.data.tag_metrics import OF_TAGS, scored_tags
from propetl.data.text_metrics import OF_TEXTS, ROUGE
from propetl.errors import ConfigurationError
from propetl.extras import check_installed
from propetl.problems.tagging import ENTITY_METRICS

Array = NDArray[Any]
Metric = Callable[[Array, Array, int], float]


def classes_of(logits: Array) -> Array:
    """The likeliest class indices, int64 [n], of logits [n, classes]."""
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def values_of(logits: Array) -> Array:
    """The values of a regression, float64 [n], of logits [n, 1] or [n]."""
    return logits.reshape(len(logits)).astype(np.float64)


def compute(metrics: Sequence[str], predictions: Array, labels: Array) -> dict[str, float]:
    """Score predictions by each of ``metrics``.

    Where a metric is not defined because the predictions or the labels are constant, it is 0.0.

    Args:
        metrics: of ``accuracy``, ``f1``, ``matthews`` for classes, ``pearson``, ``spearman`` for values; those
            of :mod:`propetl.data.text_metrics` for texts and of :mod:`propetl.data.tag_metrics` for tags. F1 is
            that of class 1 where there are two classes, else the mean over the classes.
        predictions: logits [n, classes] or [n, 1], or predictions [n] as from ``classes_of`` and ``values_of``. A
            generated answer that names no class is -1: no class, and for F1 of two classes the wrong one. Of tags a
            tuple for each row, with None for a word that has none, which is not scored.
        labels: [n], class indices, values, texts, or tuples of tags.

    Returns:
        Metric -> value, in the order of ``metrics``; JSON-able.

    Raises:
        ConfigurationError: a metric is unknown, or the predictions are not finite.
        ValueError: predictions and labels differ in length, or there are none.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if not len(labels) or predictions.shape[:1] != labels.shape:
        raise ValueError(f"predictions {predictions.shape} and labels {labels.shape} do not belong together")
    if predictions.dtype != object:
        check_finite(predictions)
    return {name: _by_name(name)(predictions, labels) for name in metrics}


def check_metrics(metrics: Iterable[str]) -> None:
    """Refuses metrics that nothing here can compute, before hours of work end at one.

    Raises:
        MissingExtraError: naming the metric, and the library that is not installed.
    """
    for name in metrics:
        if name in _LIBRARIES:
            check_installed(f"the metric {name}", _LIBRARIES[name], "train")


def check_finite(predictions: Array) -> None:
    """Refuses predictions or logits ``[n, ...]`` that are no numbers.

    Raises:
        ConfigurationError: naming the first row that has one.
    """
    if not np.isfinite(predictions).all():
        row = int(np.argwhere(~np.isfinite(predictions))[0, 0]) + 1
        raise ConfigurationError(
            f"the prediction of row {row} is not a finite number: training diverged; lower the learning rate"
        )


def _by_name(name: str) -> Callable[[Array, Array], float]:
    if name in _OF_CLASSES:
        return lambda predictions, labels: _of_classes(_OF_CLASSES[name], predictions, labels)
    if name in _OF_VALUES:
        return lambda predictions, labels: _of_values(_OF_VALUES[name], predictions, labels)
    if name in OF_TEXTS:
        return lambda predictions, labels: OF_TEXTS[name](predictions.tolist(), labels.tolist())
    if name in OF_TAGS:
        return lambda predictions, labels: OF_TAGS[name](*scored_tags(predictions.tolist(), labels.tolist()))
    known = (*_OF_CLASSES, *_OF_VALUES, *OF_TEXTS, *OF_TAGS)
    raise ConfigurationError(f"metric {name!r} is unknown: use one of {', '.join(known)}")


def _of_classes(metric: Metric, predictions: Array, labels: Array) -> float:
    """Classes are counted from the logits where these are given: a small split may lack one."""
    classes = int(max(predictions.max(), labels.max())) + 1 if predictions.ndim == 1 else predictions.shape[1]
    chosen = predictions if predictions.ndim == 1 else classes_of(predictions)
    return float(metric(chosen.astype(np.int64), labels.astype(np.int64), classes))


def _of_values(metric: Callable[[Array, Array], float], predictions: Array, labels: Array) -> float:
    values, wanted = values_of(predictions), labels.astype(np.float64)
    if np.ptp(values) == 0 or np.ptp(wanted) == 0:
        return 0.0
    return metric(values, wanted)


def _accuracy(predictions: Array, labels: Array, classes: int) -> float:
    return float((predictions == labels).mean())


def _f1(predictions: Array, labels: Array, classes: int) -> float:
    from sklearn.metrics import f1_score

    if classes <= 2:
        predictions = np.where(predictions < 0, 1 - labels, predictions)
        return float(f1_score(labels, predictions, zero_division=0.0))
    mean = f1_score(labels, predictions, labels=range(classes), average="macro", zero_division=0.0)
    return float(mean)


def _matthews(predictions: Array, labels: Array, classes: int) -> float:
    from sklearn.metrics import matthews_corrcoef

    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(matthews_corrcoef(labels, predictions))


def _pearson(values: Array, labels: Array) -> float:
    from scipy.stats import pearsonr

    return float(pearsonr(_unit(values), _unit(labels)).statistic)


def _spearman(values: Array, labels: Array) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(values, labels).statistic)


def _unit(values: Array) -> Array:
    """Shifted and scaled to [0, 1], which changes no correlation: scipy warns of values that hardly vary."""
    low = values.min()
    return np.asarray((values - low) / (values - low).max())


_OF_CLASSES: dict[str, Metric] = {"accuracy": _accuracy, "f1": _f1, "matthews": _matthews}
_OF_VALUES: dict[str, Callable[[Array, Array], float]] = {"pearson": _pearson, "spearman": _spearman}

_LIBRARIES = {
    **dict.fromkeys(("f1", "matthews"), "sklearn"),
    **dict.fromkeys(("pearson", "spearman"), "scipy"),
    **dict.fromkeys(ROUGE, "rouge_score"),
    "bleu": "sacrebleu",
    **dict.fromkeys(ENTITY_METRICS, "seqeval"),
}
"""Metric -> module that computes it, where that is not this project's own."""
