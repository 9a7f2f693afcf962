"""From the shape of a batch to one that an engine takes: which profile, and what has to be filled up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.errors import BackendError
from propetl.runtime.engine_records import Profile
from propetl.runtime.manifest import TensorSignature
from propetl.runtime.signatures import BATCH, SEQUENCE

_FILLED = (BATCH, SEQUENCE)
_SMALLEST_BUFFER = 4096

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Fit:
    """How a batch goes into an engine.

    Attributes:
        profile: index of the optimisation profile.
        sizes: of every named dimension, as the engine is going to see it.
    """

    profile: int
    sizes: Mapping[str, int]


def sizes_of(inputs: Sequence[TensorSignature], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Sizes of the named dimensions, out of the shapes that are fed."""
    return {
        name: size
        for item in inputs
        for name, size in zip(item.shape, shapes[item.name], strict=True)
        if isinstance(name, str)
    }


def fit_profile(profiles: Sequence[Profile], sizes: Mapping[str, int], path: str, fill: bool = True) -> Fit:
    """The profile for a batch of ``sizes``: of those that hold it the one tuned nearest to it.

    A batch that is smaller than every profile is filled up to the smallest that one takes, if it may be.

    Raises:
        BackendError: too large for every profile; says what they take.
    """
    holding = [index for index, profile in enumerate(profiles) if profile.holds(**sizes)]
    if holding:
        return Fit(min(holding, key=lambda index: _distance(profiles[index], sizes)), dict(sizes))
    grown = {index: _filled_up(profile, sizes) for index, profile in enumerate(profiles) if fill}
    filled = [Fit(index, sizes) for index, sizes in grown.items() if sizes]
    if not filled:
        asked = ", ".join(f"{name} {size}" for name, size in sizes.items())
        taken = "; ".join(map(str, profiles))
        raise BackendError(
            f"{path}: {asked} is outside all its profiles (smallest/best/largest: {taken}); "
            "run smaller batches or shorter rows, or propetl build it again with another --profile (--max-new-tokens)"
        )
    return min(filled, key=lambda fit: math.prod(fit.sizes.values()))


def _distance(profile: Profile, sizes: Mapping[str, int]) -> float:
    """How far a profile's best sizes are from ``sizes``, by factors."""
    return sum(abs(math.log(max(size, 1) / max(profile.sizes[name][1], 1))) for name, size in sizes.items())


def _filled_up(profile: Profile, sizes: Mapping[str, int]) -> dict[str, int] | None:
    """``sizes`` raised to what the profile takes at least; None where that cannot be."""
    grown = {name: max(size, profile.sizes[name][0]) if name in _FILLED else size for name, size in sizes.items()}
    return grown if profile.holds(**grown) else None


def filled_feeds(feeds: Mapping[str, NDArray[Any]], sizes: Mapping[str, int], pad_token_id: int) -> Arrays:
    """Feeds ``[batch, sequence]`` (or ``[batch]``) filled up to ``sizes``.

    Rows are filled with padding that is not attended to; further rows repeat the first, as a row that attends to
    nothing divides zero by zero.
    """
    return {name: _filled(name, array, sizes, pad_token_id) for name, array in feeds.items()}


def _filled(name: str, array: NDArray[Any], sizes: Mapping[str, int], pad_token_id: int) -> NDArray[Any]:
    if array.ndim > 1 and array.shape[1] < sizes[SEQUENCE]:
        filler = pad_token_id if name == "input_ids" else 0
        array = np.pad(array, ((0, 0), (0, sizes[SEQUENCE] - array.shape[1])), constant_values=filler)
    missing = sizes[BATCH] - len(array)
    return np.concatenate([array, np.repeat(array[:1], missing, axis=0)]) if missing else array


def buffer_bytes(needed: int, held: int) -> int:
    """How large a buffer of ``held`` bytes is to be for ``needed``: unchanged, or the next power of two.

    Doubling means that a buffer is made anew a handful of times at most, and never for a smaller batch.
    """
    return held if needed <= held else max(_SMALLEST_BUFFER, 1 << (needed - 1).bit_length())
