import numpy as np
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


def test_figures_of_a_rollup():
    assert memory_of(ROLLUP) == Memory(pss=8 << 20, rss=10 << 20, private=6 << 20)


def test_memory_that_was_touched_shows():
    before = own_memory()
    block = np.ones(64 << 20, dtype=np.uint8)
    after = own_memory()
    assert block[-1] == 1
    assert after.private - before.private > 60 << 20
    assert after.private <= after.pss <= after.rss


def test_a_system_that_does_not_tell(tmp_path):
    with pytest.raises(BackendError, match="memory is measured on Linux only"):
        own_memory(tmp_path / "smaps_rollup")
