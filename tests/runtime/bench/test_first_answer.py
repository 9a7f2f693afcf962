import json

import pytest

from propetl.errors import BackendError
from propetl.runtime.bench.first_answer import print_stages
from propetl.runtime.bench.processes import timed_first_line

MODULE = "propetl.runtime.bench.first_answer"
INPUTS = {"input_ids": [[2, 5, 3]], "attention_mask": [[1, 1, 1]], "token_type_ids": [[0, 0, 0]]}


def asked(tiny, **changes):
    fields = {
        "source": str(tiny.path),
        "runtime": "folded",
        "task": "mood",
        "verify": True,
        "inputs": INPUTS,
    }
    return ["-m", MODULE, json.dumps(fields | changes)]


def test_stages_run_in_order(capsys):
    ran = []

    def opening():
        ran.append("opening")
        return lambda: ran.append("run")

    print_stages(lambda: ran.append("imports"), opening)
    assert ran == ["imports", "opening", "run"]
    stages = json.loads(capsys.readouterr().out)
    assert list(stages) == ["imports", "opening", "running"] and min(stages.values()) >= 0


@pytest.mark.parametrize("runtime", ["folded", "switchable", "bank", "bare"])
def test_every_runtime_answers(tiny, runtime):
    taken, stages = timed_first_line(runtime, asked(tiny, runtime=runtime))
    assert min(stages.values()) > 0
    assert sum(stages.values()) < taken


def test_files_are_hashed_when_asked_to(own_tiny):
    weights = own_tiny.path / "backbone.data"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(BackendError, match="SHA-256"):
        timed_first_line("folded", asked(own_tiny))
    taken, _ = timed_first_line("folded", asked(own_tiny, verify=False))
    assert taken > 0
