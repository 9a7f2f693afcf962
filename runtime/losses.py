"""What quantising cost, as the manifest keeps it."""

import math
from dataclasses import dataclass
from typing import Any

from propetl import fields
from propetl.errors import ConfigurationError


@dataclass(frozen=True)
class Loss:
    """One task of one form beside PyTorch in float32.

    Attributes:
        task: which task.
        form: which form.
        rows: rows compared.
        agreement: share of rows with the same prediction (regression: within the precision's tolerance).
        metric: the task's main one; None where the rows have no labels.
        reference: its value by PyTorch.
        quantised: its value by the artifact.
    """

    task: str
    form: str
    rows: int
    agreement: float
    metric: str | None = None
    reference: float | None = None
    quantised: float | None = None

    @property
    def points(self) -> float | None:
        """Points of the metric that were lost (negative where it rose); None where there is none."""
        if self.reference is None or self.quantised is None:
            return None
        return 100 * (self.reference - self.quantised)

    @classmethod
    def from_json(cls, value: Any) -> "Loss":
        """Inverse of ``dataclasses.asdict``."""
        found = fields.record(value, "a loss", cls.__dataclass_fields__)
        for key in ("task", "form"):
            fields.text(found[key], f"a loss's {key}")
        fields.whole(found["rows"], "a loss's rows", 1)
        fields.number(found["agreement"], "a loss's agreement")
        fields.optional(fields.text, found["metric"], "a loss's metric")
        for key in ("reference", "quantised"):
            fields.optional(fields.number, found[key], f"a loss's {key}")
        return cls(**found)


@dataclass(frozen=True)
class Float16Range:
    """The ranges measured before an artifact's graphs were lowered to float16.

    Attributes:
        rows: on which, of all tasks together.
        margin: how many times larger than there an activation may get.
        products: matrix products of all graphs.
        exact: those of them that stay float32.
        largest: absolute value that was met anywhere.
    """

    rows: int
    margin: float
    products: int
    exact: int
    largest: float

    @classmethod
    def from_json(cls, value: Any) -> "Float16Range":
        """Inverse of ``dataclasses.asdict``."""
        found = fields.record(value, "float16", cls.__dataclass_fields__)
        for key in ("rows", "products", "exact"):
            fields.whole(found[key], f"float16's {key}")
        for key in ("margin", "largest"):
            fields.number(found[key], f"float16's {key}")
        return cls(**found)


def check_drop(value: float) -> float:
    """Refuses a limit on lost points that nothing could be held against.

    Raises:
        ConfigurationError: it is negative or no number.
    """
    if not math.isfinite(value) or value < 0:
        raise ConfigurationError(f"--max-drop takes points of a metric, 0 or more; got {value}")
    return value
