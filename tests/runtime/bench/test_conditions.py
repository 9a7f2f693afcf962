import json
import subprocess
import sys
import time
from dataclasses import asdict

from propetl.runtime.bench.conditions import busy_cores, busy_ticks_of, conditions_now, cpu_of

X86 = """processor\t: 0
model name\t: AMD EPYC 9R14
flags\t\t: fpu sse avx2 fma avx512f avx512_vnni
processor\t: 1
model name\t: another
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm asimddp i8mm bf16
CPU part\t: 0xd40
"""


def test_an_x86_processor():
    assert cpu_of(X86) == ("AMD EPYC 9R14", ("avx2", "fma", "avx512f", "avx512_vnni"))


def test_an_arm_processor_has_no_name_but_features():
    assert cpu_of(ARM) == ("", ("asimd", "asimddp", "i8mm", "bf16"))


def test_nothing_known():
    assert cpu_of("") == ("", ())


def test_ticks_leave_out_idling_waiting_and_guests():
    assert busy_ticks_of("cpu  10 20 30 9999 8888 1 2 3 500 600\ncpu0 1 1 1 1 1 1 1 1\n") == 66


def test_a_core_that_works_shows():
    spin = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    with subprocess.Popen(spin, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        busy = busy_cores(0.5)
        process.kill()
    assert busy is None or busy > 0.3


def test_conditions_of_this_machine():
    start = time.monotonic()
    found = conditions_now(eager=False, sampling_seconds=0.01)
    assert time.monotonic() - start < 5
    assert found.cpu and found.system
    assert 1 <= found.usable_cores <= found.cores
    assert found.memory_bytes > 1 << 28
    assert {"python", "propetl", "numpy", "onnxruntime"} <= found.versions.keys()
    assert "torch" not in found.versions
    assert json.loads(json.dumps(asdict(found)))["date"].endswith("+00:00")
