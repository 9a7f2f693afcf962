"""What a validation found: checks that hold or do not, and logits compared with a reference."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tolerance:
    """How far logits may be from their reference: ``absolute + relative * |reference|``, for each element.

    Where ``same_texts``, what is generated has to be the same, token for token. Rounding to integers decides between
    two tokens that are nearly as likely, and all that follow are others: texts are then judged by metrics alone.
    """

    absolute: float
    relative: float
    same_texts: bool = True


TOLERANCES = {
    "fp32": Tolerance(absolute=1e-5, relative=1e-5),
    "tf32": Tolerance(absolute=5e-3, relative=5e-3),
    "fp16": Tolerance(absolute=1e-2, relative=1e-2),
    "bf16": Tolerance(absolute=8e-2, relative=8e-2),
    "int8": Tolerance(absolute=2.5e-1, relative=2.5e-1, same_texts=False),
    "int8-static": Tolerance(absolute=2.5e-1, relative=2.5e-1, same_texts=False),
    "int4": Tolerance(absolute=1.0, relative=1.0, same_texts=False),
}
"""By precision of what computes. Half a unit in the last place is 2^-24 in fp32, 2^-11 in tf32 (products only) and
fp16, 2^-8 in bf16; the tolerances leave ten to twenty times that (fp32: 170) for what adds up over the layers. int8
rounds each tensor to 2^-8 of its range, int4 each block of weights to 2^-4 of its own, a tolerance four times as
wide: whether that is good enough is told by the task's metrics, not by logits."""


@dataclass(frozen=True)
class Check:
    """One statement that holds or does not.

    Attributes:
        name: what was checked, such as ``files`` or ``signature``.
        subject: form, graph or task it is about.
        passed: whether it holds.
        detail: what was found where it does not.
    """

    name: str
    subject: str
    passed: bool
    detail: str = ""

    @property
    def breach(self) -> str:
        """One line for people."""
        return f"{self.name} of {self.subject}: {self.detail}"


@dataclass(frozen=True)
class Comparison:
    """Logits of an artifact beside those of PyTorch on the same rows.

    Attributes:
        task: which task.
        form: which form.
        rows: rows compared.
        max_abs: largest absolute difference of a logit.
        max_rel: largest relative difference: of a row's logits, divided by the row's largest ``|reference|``.
        tolerance: what was allowed.
        agreement: share of rows with the same prediction (regression: within tolerance); of tags, share of words or
            tokens.
        worst_row: row, counted from 0, that is furthest beyond (or nearest to) its tolerance.
        passed: whether every logit is within tolerance.
        batching: which rows, and how they were put together, such as ``golden rows mixed``.
        metrics_reference: the task's metrics by PyTorch; empty where rows have no labels.
        metrics_artifact: the same by the artifact.
        of: what was compared: ``logits``, or ``texts`` that were generated, whose differences are 0 or infinite.
    """

    task: str
    form: str
    rows: int
    max_abs: float
    max_rel: float
    tolerance: Tolerance
    agreement: float
    worst_row: int
    passed: bool
    batching: str = "batch"
    metrics_reference: dict[str, float] = field(default_factory=dict)
    metrics_artifact: dict[str, float] = field(default_factory=dict)
    of: Literal["logits", "texts"] = "logits"

    @property
    def breach(self) -> str:
        """One line for people: task, form, row, and how far off it is."""
        if self.of == "texts":
            same = f"{self.agreement:.1%} of {self.rows} rows are the same"
            return f"task {self.task}, form {self.form} ({self.batching}), row {self.worst_row}: other text; {same}"
        return (
            f"task {self.task}, form {self.form} ({self.batching}), row {self.worst_row}: logits differ by "
            f"{self.max_abs:.2e} (relative {self.max_rel:.2e}), allowed {self.tolerance.absolute:.0e} + "
            f"{self.tolerance.relative:.0e} × |reference|"
        )


def compare_logits(
    task: str,
    form: str,
    reference: NDArray[np.float32],
    found: NDArray[np.float32],
    tolerance: Tolerance,
    *,
    batching: str = "batch",
    metrics_reference: dict[str, float] | None = None,
    metrics_artifact: dict[str, float] | None = None,
) -> Comparison:
    """Compares logits ``[rows, outputs]``; another shape, NaN or infinity is a breach.

    Or those of words and tokens ``[rows, places, outputs]``: where both are NaN, a row has no such place.
    """
    metrics = (metrics_reference or {}, metrics_artifact or {})
    rows = np.arange(len(reference))
    if found.shape == reference.shape and reference.ndim == 3:
        there = ~(np.isnan(reference).all(axis=2) & np.isnan(found).all(axis=2))
        rows, reference, found = np.nonzero(there)[0], reference[there], found[there]
    if found.shape != reference.shape or not len(reference):
        inf = float("inf")
        return Comparison(task, form, len(reference), inf, inf, tolerance, 0.0, 0, False, batching, *metrics)
    wide = reference.astype(np.float64)
    finite = np.isfinite(found) & np.isfinite(wide)
    difference = np.full(wide.shape, np.inf)
    difference[finite] = np.abs(found[finite] - wide[finite])
    wide = np.where(finite, wide, 0.0)
    excess = (difference - tolerance.absolute - tolerance.relative * np.abs(wide)).max(axis=1)
    scale = np.maximum(np.abs(wide).max(axis=1), np.finfo(np.float32).tiny)
    return Comparison(
        task=task,
        form=form,
        rows=len(np.unique(rows)),
        max_abs=float(difference.max()),
        max_rel=float((difference.max(axis=1) / scale).max()),
        tolerance=tolerance,
        agreement=_agreement(reference, found, excess),
        worst_row=int(rows[excess.argmax()]),
        passed=bool((excess <= 0).all()),
        batching=batching,
        metrics_reference=metrics[0],
        metrics_artifact=metrics[1],
    )


def compare_texts(
    task: str,
    form: str,
    reference: Sequence[Sequence[int]] | Sequence[str],
    found: Sequence[Sequence[int]] | Sequence[str],
    tolerance: Tolerance,
    *,
    batching: str = "batch",
    metrics_reference: dict[str, float] | None = None,
    metrics_artifact: dict[str, float] | None = None,
) -> Comparison:
    """Compares what was generated, as texts or tokens, row by row: the same or not, which ``tolerance`` may allow."""
    same = [one == other for one, other in zip(reference, found, strict=False)]
    complete = len(reference) == len(found) > 0
    difference = 0.0 if complete and all(same) else float("inf")
    return Comparison(
        task=task,
        form=form,
        rows=len(reference),
        max_abs=difference,
        max_rel=difference,
        tolerance=tolerance,
        agreement=sum(same) / max(1, len(reference)),
        worst_row=same.index(False) if False in same else 0,
        passed=complete and (all(same) or not tolerance.same_texts),
        batching=batching,
        metrics_reference=metrics_reference or {},
        metrics_artifact=metrics_artifact or {},
        of="texts",
    )


def _agreement(reference: NDArray[Any], found: NDArray[Any], excess: NDArray[Any]) -> float:
    same = excess <= 0 if reference.shape[1] == 1 else reference.argmax(axis=1) == found.argmax(axis=1)
    return float(np.mean(same))


@dataclass(frozen=True)
class Report:
    """Everything a validation looked at.

    Attributes:
        artifact: its folder.
        provider: what ran it.
        precision: of the artifact.
        checks: files, shapes, signatures.
        comparisons: logits against golden outputs, or against PyTorch.
        tools: versions of what ran.
    """

    artifact: str
    provider: str
    precision: str
    checks: tuple[Check, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    tools: dict[str, str] = field(default_factory=dict)

    @property
    def breaches(self) -> tuple[str, ...]:
        """One line for each check or comparison that failed."""
        looked_at: tuple[Check | Comparison, ...] = (*self.checks, *self.comparisons)
        return tuple(item.breach for item in looked_at if not item.passed)

    @property
    def passed(self) -> bool:
        """Whether anything was looked at and nothing failed."""
        return bool(self.checks or self.comparisons) and not self.breaches

    def to_json(self) -> dict[str, Any]:
        """As written by ``propetl validate --json``; infinite differences become null."""
        plain: dict[str, Any] = _finite(asdict(self))
        return {"passed": self.passed, "breaches": list(self.breaches)} | plain


def _finite(value: Any) -> Any:
    """JSON has no infinity: what is not finite becomes None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
