"""Methods that attach nothing, to compare with: a head alone, and full fine-tuning."""

from propetl.prototypes.method import Method


class HeadAlone(Method[object]):
    """The backbone stays as it is; only heads train."""

    name = "head"
    baseline = True
    title = "a head alone"
    learning_rate = 1e-3
    score_learning_rate = 1e-3


class FullFineTuning(Method[object]):
    """All weights of the backbone train, for one task."""

    name = "full"
    baseline = True
    title = "full fine-tuning"
    learning_rate = 2e-5
    score_learning_rate = 2e-5
    trains_backbone = True
