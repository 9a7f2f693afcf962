"""Random bundles that stand for all: families, methods, kinds of masks, sharing and heads, pairwise.

Tests of several kinds take theirs from here: an export of a case that another test has exported traces nothing.
"""

from dataclasses import replace

from propetl.prototypes.spec import Combination, PrototypeConfig
from tests.export.random_artifact import Case

ADAPTER = PrototypeConfig(bottleneck=5, sparsity=0.5, activation="gelu")
HOULSBY = PrototypeConfig(bottleneck=3, sparsity=0.3, sites=("attention", "ffn"))
# Scaled by 1.5. By the default alpha of 48, a rank this small would be scaled by 24: softmax then turns on differences
# of rounding, and PyTorch itself is more than 1e-5 away from its own answers in float64.
LORA = PrototypeConfig("lora", rank=3, alpha=4.5, sparsity=0.6)
LORA_ON_ALL = PrototypeConfig("lora", rank=2, alpha=3.0, targets=("query", "key", "value"), sparsity=0.2)
PREFIX = PrototypeConfig("prefix", prefix_length=3, sparsity=0.5)
IA3 = PrototypeConfig("ia3", sparsity=0.6)
LANGUAGES = ("de", "en")


def _hybrid(config: PrototypeConfig, combine: Combination, languages: tuple[str, ...] = ()) -> PrototypeConfig:
    return replace(config, masks="hybrid", combine=combine, languages=languages)


CASES = [
    Case("bert", _hybrid(ADAPTER, "or"), tasks={"one": 1, "three": 3, "four": 4}),
    Case("bert", LORA_ON_ALL, head="own", layers=3),
    Case("bert", PREFIX, hidden=16, layers=1),
    Case("roberta", _hybrid(HOULSBY, "and"), head="own"),
    Case("roberta", LORA, layers=1, tasks={"value": 0}),
    Case("roberta", PrototypeConfig("prefix", "unshared", prefix_length=2), layers=1),
    Case("xlm-roberta", _hybrid(HOULSBY, "or", LANGUAGES), layers=1),
    Case("xlm-roberta", replace(LORA, sparsity=1.0), hidden=16, layers=1),
    Case("xlm-roberta", _hybrid(PREFIX, "add", LANGUAGES), layers=3),
    Case("electra", _hybrid(ADAPTER, "add", LANGUAGES), head="own"),
    Case("electra", PrototypeConfig("lora", "unshared", rank=2, alpha=3.0)),
    Case("electra", replace(PREFIX, sparsity=0.05), head="own", layers=1),
    Case("distilbert", HOULSBY, hidden=40),
    Case("distilbert", _hybrid(LORA, "or", LANGUAGES), head="own", layers=1),
    Case("distilbert", _hybrid(PREFIX, "and", LANGUAGES)),
    Case("mpnet", PrototypeConfig("adapter", "unshared", bottleneck=4), head="own", layers=1),
    Case("mpnet", _hybrid(LORA_ON_ALL, "add")),
    Case("mpnet", _hybrid(PREFIX, "or"), layers=1),
    Case("bert", ADAPTER, layers=1),
    Case("bert", _hybrid(LORA, "and", LANGUAGES), hidden=16, layers=1),
    Case("bert", replace(LORA, masks="only-layers"), head="own", layers=1),
    Case("bert", PrototypeConfig("head"), head="own", layers=1),
    Case("xlm-roberta", replace(ADAPTER, masks="only-tasks"), head="own", layers=1),
    Case("roberta", _hybrid(IA3, "and", LANGUAGES), layers=1),
    Case("gpt2", LORA, layers=1),
    Case("gpt2", IA3, layers=1),
    Case("llama", PREFIX, layers=1),
]
HYBRID_CASES = [case for case in CASES if case.config.masks == "hybrid"]


def case_of(family: str, method: str, masks: str | None = None) -> Case:
    """The first case of ``family`` and ``method``, and ``masks`` where they are given."""
    fits = (case for case in CASES if (case.family, case.config.method) == (family, method))
    return next(case for case in fits if masks in (None, case.config.masks))
