"""What a checkpoint does not say, and what an import reports."""

from dataclasses import dataclass
from typing import get_args

from propetl.bundle.format import BundleInfo
from propetl.bundle.writer import BundleContents
from propetl.errors import ConfigurationError
from propetl.prototypes.spec import Combination


@dataclass(frozen=True)
class ImportOptions:
    """What a checkpoint does not say.

    Attributes:
        backbone: where to load the backbone from; None takes the name in the checkpoint.
        task: name of the task in the bundle; None takes the checkpoint's. T5's files hold many tasks, and take none.
        columns: text columns of a task that is not known by name.
        sparsity: of masks that stand in the file as scores without their sparsity.
        combine: how T5's layer and task masks become one.
        max_length: tokens to which texts are truncated.
        overwrite: replace a bundle that is there.
        allow_pickle: read a backbone that has no safetensors, tensors alone.
    """

    backbone: str | None = None
    task: str | None = None
    columns: tuple[str, ...] = ()
    sparsity: float | None = None
    combine: Combination | None = None
    max_length: int = 128
    overwrite: bool = False
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        if self.sparsity is not None and not 0.0 < self.sparsity <= 1.0:
            raise ConfigurationError(f"--sparsity is the share of weights kept and lies in (0, 1]; got {self.sparsity}")
        if self.combine is not None and self.combine not in get_args(Combination):
            known = ", ".join(get_args(Combination))
            raise ConfigurationError(f"--combine is one of {known}; got {self.combine!r}")
        if self.max_length < 4:
            raise ConfigurationError(f"--max-length must be at least 4; got {self.max_length}")
        if len(self.columns) > 2:
            raise ConfigurationError(f"--column: a task has one or two text columns; got {', '.join(self.columns)}")


@dataclass(frozen=True)
class Converted:
    """A checkpoint as a bundle, not yet written.

    Attributes:
        contents: the bundle's.
        not_mapped: tensors of the checkpoint that have no place in it, with their files.
        assumed: what the checkpoint does not say, and what was taken for it.
    """

    contents: BundleContents
    not_mapped: tuple[str, ...]
    assumed: tuple[str, ...]


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        info: the bundle's.
        not_mapped: as in :class:`Converted`.
        assumed: as in :class:`Converted`.
    """

    info: BundleInfo
    not_mapped: tuple[str, ...]
    assumed: tuple[str, ...]
