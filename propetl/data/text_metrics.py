"""Metrics of generated texts, from rouge-score and sacreBLEU; like all others they lie between 0 and 1."""

from collections.abc import Callable, Sequence
from functools import partial

from propetl.errors import MissingExtraError

Texts = Sequence[str]


def _rouge(kind: str, generated: Texts, wanted: Texts) -> float:
    """Mean F-measure over the rows, words stemmed (Lin 2004); ``rougeLsum`` takes each line as a sentence."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise MissingExtraError(f"the metric {kind}", "rouge_score", "train") from error
    scorer = RougeScorer([kind], use_stemmer=True)
    scores = [scorer.score(target, text)[kind].fmeasure for text, target in zip(generated, wanted, strict=True)]
    return float(sum(scores) / len(scores))


def _bleu(generated: Texts, wanted: Texts) -> float:
    """sacreBLEU of the whole split with its defaults, which is given as a share of 1 here (Post 2018)."""
    try:
        from sacrebleu import corpus_bleu
    except ImportError as error:
        raise MissingExtraError("the metric bleu", "sacrebleu", "train") from error
    return float(corpus_bleu(list(generated), [list(wanted)]).score) / 100


def _exact_match(generated: Texts, wanted: Texts) -> float:
    """Share of rows that are what was wanted, blanks around them apart."""
    same = [text.strip() == target.strip() for text, target in zip(generated, wanted, strict=True)]
    return sum(same) / len(same)


ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")

OF_TEXTS: dict[str, Callable[[Texts, Texts], float]] = {
    **{kind: partial(_rouge, kind) for kind in ROUGE},
    "bleu": _bleu,
    "exact_match": _exact_match,
}
"""Metric -> function of the generated and the wanted texts."""
