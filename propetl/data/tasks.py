"""The eight GLUE tasks, as ``TASKS``."""

from propetl.task import TaskSpec


def _glue(
    name: str,
    hub_columns: tuple[str, ...],
    labels: tuple[str, ...],
    metrics: tuple[str, ...] = ("accuracy",),
) -> TaskSpec:
    columns = ("sentence1", "sentence2")[: len(hub_columns)]
    return TaskSpec(
        name=name,
        columns=columns,
        problem="classification" if labels else "regression",
        labels=labels,
        metrics=metrics,
        alternatives=() if hub_columns == columns else (hub_columns,),
    )


_PARAPHRASE = ("not_equivalent", "equivalent")
_ENTAILMENT = ("entailment", "not_entailment")

TASKS: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        _glue("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
        _glue("sst2", ("sentence",), ("negative", "positive")),
        _glue("mrpc", ("sentence1", "sentence2"), _PARAPHRASE, ("accuracy", "f1")),
        _glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")),
        _glue("stsb", ("sentence1", "sentence2"), (), ("pearson", "spearman")),
        _glue("mnli", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
        _glue("qnli", ("question", "sentence"), _ENTAILMENT),
        _glue("rte", ("sentence1", "sentence2"), _ENTAILMENT),
    )
}
"""The GLUE tasks, named as on the hub; labels in GLUE's order (Wang et al. 2018, table 1)."""
