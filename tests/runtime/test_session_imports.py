"""What the first answer of a process loads: it waits for every module."""

import json
import subprocess
import sys

from tests.device_env import ROOT

ANSWER = """
import json, sys
from propetl.runtime import Session
with Session.open(sys.argv[1], form=sys.argv[2], threads=1) as session:
    session.run("mood", ["good film"])
print(json.dumps(sorted(name for name in sys.modules if name.startswith(("propetl.", "safetensors")))))
"""

UNUSED = (
    "propetl.bundle.prototype",
    "propetl.bundle.reader",
    "propetl.bundle.samples",
    "propetl.bundle.writer",
    "propetl.families",
    "propetl.runtime.engine_checks",
    "propetl.runtime.engine_records",
    "propetl.runtime.engines.cuda_runtime",
    "propetl.runtime.forms.generating",
    "propetl.runtime.forms.part_engines",
    "propetl.runtime.forms.staged_generating",
    "propetl.runtime.forms.text_tasks",
    "propetl.runtime.generation",
    "propetl.runtime.golden",
    "propetl.runtime.losses",
    "propetl.runtime.prediction",
    "propetl.runtime.report",
    "propetl.runtime.text_writer",
    "propetl.runtime.tuned",
    "safetensors",
)


def loaded(path, form):
    done = subprocess.run(
        [sys.executable, "-c", ANSWER, str(path), form], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_first_answer_loads_nothing_that_it_does_not_use(staged):
    modules = loaded(staged.path, "switchable")
    assert "propetl.runtime.forms.staged" in modules
    assert not {"propetl.runtime.forms.folded", "propetl.runtime.forms.switchable"} & {*modules}
    assert [name for name in modules if name.startswith(UNUSED)] == []


def test_one_form_loads_no_other(tiny):
    modules = loaded(tiny.path, "folded")
    assert "propetl.runtime.forms.folded" in modules
    others = {f"propetl.runtime.forms.{name}" for name in ("applied", "bank", "staged", "switchable")}
    assert not others & {*modules}
    assert [name for name in modules if name.startswith(UNUSED)] == []
