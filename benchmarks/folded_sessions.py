"""``python benchmarks/folded_sessions.py ARTIFACT fast|small COUNT``: memory of a process that serves them, as JSON.

Imports what such a process would: with PyTorch beside it, a process is so large that sessions hardly show.
"""

import json
import sys

import numpy as np

from propetl.runtime import Session
from propetl.runtime.bench.memory import own_memory

_TOKENS = 128


def main() -> None:
    """Opens a session for each of COUNT tasks, runs each, and prints the memory (PSS) of this process."""
    path, memory, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    ids = np.arange(1000, 1000 + _TOKENS)[None]
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    alive = [Session.open(path, form="folded", threads=1, memory=memory) for _ in range(count)]
    for session, task in zip(alive, alive[0].tasks, strict=False):
        session.run(task, feeds)
    print(json.dumps({"pss": own_memory().pss}))


if __name__ == "__main__":
    main()
