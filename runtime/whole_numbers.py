"""Whole numbers as callers give them: one check of kind and range for every option."""

import numpy as np

from propetl.errors import ConfigurationError

MOST_THREADS = 1024
"""More than any machine has cores; ONNX Runtime would try to start a million, and take the process down with it."""

LARGEST = (1 << 31) - 1
"""Engines keep sizes and numbers of devices in 32 bits."""


def whole_number(name: str, value: object, smallest: int, largest: int | None = None) -> int:
    """``value`` as an int, if it is a whole number in range; numpy's integers are, booleans and floats are not.

    Args:
        name: of the option, for the message.
        value: as given.
        smallest: that makes sense.
        largest: that makes sense; None for no such limit.

    Raises:
        ConfigurationError: naming the option, the range and the value.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
        if smallest <= number and (largest is None or number <= largest):
            return number
    wanted = f"of at least {smallest}" if largest is None else f"from {smallest} to {largest}"
    raise ConfigurationError(f"{name} must be a whole number {wanted}; got {_shown(value)}")


def _shown(value: object) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < LARGEST**2 else "a number of many digits"
    return text if len(text) <= 40 else f"{text[:40]}…"
