import json
import subprocess
import sys

import pytest

from propetl.errors import BackendError
from propetl.runtime.bench.memory import Memory, memory_of, own_memory

ROLLUP = """5581ce6ab000-7ffd3f9fe000 ---p 00000000 00:00 0                          [rollup]
Rss:               10240 kB
Pss:                8192 kB
Pss_Dirty:          4096 kB
Shared_Clean:       4096 kB
Shared_Dirty:          0 kB
Private_Clean:      2048 kB
Private_Dirty:      4096 kB
THPeligible:           0
"""
TOUCH = """
import json
from dataclasses import asdict
import numpy as np
from propetl.runtime.bench.memory import own_memory

before = own_memory()
block = np.ones(64 << 20, dtype=np.uint8)
print(json.dumps([asdict(before), asdict(own_memory())]))
"""


def test_figures_of_a_rollup():
    assert memory_of(ROLLUP) == Memory(pss=8 << 20, rss=10 << 20, private=6 << 20)


def test_memory_that_was_touched_shows():
    # In a process of its own: this one may give memory of other tests back between the two readings.
    done = subprocess.run([sys.executable, "-c", TOUCH], capture_output=True, text=True, check=True)
    before, after = (Memory(**reading) for reading in json.loads(done.stdout))
    assert 60 << 20 < after.private - before.private < 80 << 20
    assert after.private <= after.pss <= after.rss


def test_a_system_that_does_not_tell(tmp_path):
    with pytest.raises(BackendError, match="memory is measured on Linux only"):
        own_memory(tmp_path / "smaps_rollup")
