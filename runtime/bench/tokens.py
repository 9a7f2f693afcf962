"""Random token ids: the same for every runtime, as the numbers in them do not change the work."""

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.bench.messages import Cell, Vocabulary

_SEED = 20230702


def feeds_of(cell: Cell, vocabulary: Vocabulary) -> dict[str, NDArray[np.int64]]:
    """Token inputs int64 ``[batch, sequence]``: every token real, so no runtime can skip padding.

    Equal arguments give equal ids, in any process. The padding id is left out: families that number
    positions by it would count fewer.
    """
    shape = (cell.batch, cell.sequence)
    random = np.random.default_rng((_SEED, *shape))
    ids = random.integers(0, vocabulary.size - 1, shape, dtype=np.int64)
    ids += ids >= vocabulary.padding
    feeds = {
        "input_ids": ids,
        "attention_mask": np.ones(shape, dtype=np.int64),
        "token_type_ids": np.zeros(shape, dtype=np.int64),
    }
    return {name: feeds[name] for name in vocabulary.inputs}
