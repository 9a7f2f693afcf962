"""How near the numbers of JavaScript have to be to those of Python."""

from typing import Any

import numpy as np


def assert_same(mine: Any, theirs: Any, within: float = 1e-5) -> None:
    """Numbers, or lists of them, that differ by ``within`` at most; JSON has null for NaN."""
    np.testing.assert_allclose(np.array(mine, np.float64), np.array(theirs, np.float64), rtol=0, atol=within)
