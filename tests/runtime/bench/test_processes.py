import os
import subprocess
import sys
import time

import pytest

from propetl.errors import ArtifactError, BackendError
from propetl.runtime.bench.messages import Load, MeasureMemory, Vocabulary
from propetl.runtime.bench.processes import WorkerProcess, timed_first_line
from tests.device_env import ROOT

WORKER = "propetl.runtime.bench.worker"


def test_a_worker_answers_and_ends():
    with WorkerProcess("folded", WORKER) as worker:
        assert worker.ask(MeasureMemory())["pss"] > 0
        process = worker._process
        assert process.poll() is None
    assert process.returncode == 0


def test_an_error_in_the_worker_is_raised_here_and_the_worker_lives_on(tmp_path):
    load = Load(str(tmp_path), "folded", "a", "cpu", 1, Vocabulary(9, 0, ()))
    with WorkerProcess("folded", WORKER) as worker:
        with pytest.raises(ArtifactError, match="no artifact is there"):
            worker.ask(load)
        assert worker.ask(MeasureMemory())["pss"] > 0


def test_a_worker_that_cannot_start():
    with (
        WorkerProcess("folded", "propetl.no_such_worker") as worker,
        pytest.raises(BackendError, match=r"runs folded ended with code 1: .*No module named propetl.no_such"),
    ):
        worker.ask(MeasureMemory())


def test_a_worker_that_the_system_ends():
    with WorkerProcess("bank", WORKER) as worker:
        worker.ask(MeasureMemory())
        worker._process.kill()
        with pytest.raises(BackendError, match=r"runs bank was ended by signal 9: .*enough memory"):
            worker.ask(MeasureMemory())


def test_a_worker_that_waits_takes_no_core():
    with WorkerProcess("folded", WORKER) as worker:
        worker.ask(MeasureMemory())
        time.sleep(0.3)  # what it still does after its answer is not waiting
        before = _ticks(worker._process.pid)
        time.sleep(1.0)
        assert _ticks(worker._process.pid) - before <= 2  # of 100


def _ticks(pid):
    """User and system time of a process in ticks of 10 ms."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_workers_end_with_a_parent_that_is_killed():
    code = (
        "import sys, time\n"
        "from propetl.runtime.bench.messages import MeasureMemory\n"
        "from propetl.runtime.bench.processes import WorkerProcess\n"
        f"worker = WorkerProcess('folded', {WORKER!r})\n"
        "worker.ask(MeasureMemory())\n"
        "print(worker._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    line = [sys.executable, "-c", code]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while _is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_running(pid)


def _is_running(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_first_line_is_timed_to_its_arrival():
    code = "import time; time.sleep(0.2); print('{\"imports\": 5}', flush=True); time.sleep(0.4)"
    taken, found = timed_first_line("it", ["-c", code])
    assert found == {"imports": 5}
    assert taken > 0.2e9


def test_no_first_line():
    with pytest.raises(BackendError, match="the process that runs it ended with code 1: ValueError: why"):
        timed_first_line("it", ["-c", "raise ValueError('why')"])
