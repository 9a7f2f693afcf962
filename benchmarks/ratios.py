"""The figures that targets and guard look at: groups of them, each measured by one function for one run.

Everything runs on MiniLM with an adapter of bottleneck 32 and random tasks; smaller is better in every figure.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import thousand_tasks
from random_tasks import write_random_bundle
from side_by_side import EAGER, Runtime, SideBySide, ratio

from propetl.errors import ArtifactError
from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.runtime.artifact import read_manifest
from propetl.runtime.bench.first_answer import FirstAnswer
from propetl.runtime.bench.messages import Cell
from propetl.runtime.bench.processes import timed_first_line
from propetl.runtime.manifest import MANIFEST

TASKS = tuple(f"task-{index}" for index in range(10))
FORMS = ("folded", "switchable", "bank", "bare")
LONG, SHORT, MIXED_LONG, MIXED_SHORT = Cell(1, 128), Cell(1, 16), Cell(8, 128), Cell(8, 16)

FOLDED_SESSIONS = str(Path(__file__).with_name("folded_sessions.py"))

Figures = dict[str, float]


@dataclass(frozen=True)
class Bench:
    """What is measured, and how long.

    Attributes:
        work: folder that keeps bundles and artifacts from one call to the next.
        seconds: of running per visit.
        rounds: visits of each runtime in one run.
    """

    work: Path
    seconds: float = 0.5
    rounds: int = 5

    @property
    def bundle(self) -> Path:
        """Ten random tasks."""
        return self._made("bundle", lambda path: write_random_bundle(path, len(TASKS)), "bundle.json")

    @property
    def artifact(self) -> Path:
        """The same in all forms, and the bare backbone."""
        return self._exported("artifact", ExportOptions(forms=FORMS))

    @property
    def int8(self) -> Path:
        """Folded, quantised to int8; what that costs random tasks says nothing, so any loss is allowed."""
        return self._exported("artifact-int8", ExportOptions(quantize="int8", max_drop=100))

    @property
    def fused(self) -> Path:
        """Folded, with attention as one operator of ONNX Runtime."""
        return self._exported("artifact-fused", ExportOptions(operators="onnxruntime"))

    @property
    def tuned(self) -> Path:
        """Folded, optimised and with weights packed for the CPU of this machine."""
        return self._exported("artifact-tuned", ExportOptions(tune=True))

    @property
    def thousand(self) -> Path:
        """A thousand tasks in form switchable."""

        def make(path: Path) -> None:
            shutil.rmtree(self.work / "bundle-1000", ignore_errors=True)  # of a call that was broken off
            thousand_tasks.make_artifact(self.work / "bundle-1000", path, 1000)

        return self._made("artifact-1000", make, MANIFEST)

    def _exported(self, name: str, options: ExportOptions) -> Path:
        return self._made(name, lambda path: export_bundle(self.bundle, path, options), MANIFEST)

    def _made(self, name: str, make: Callable[[Path], object], marker: str) -> Path:
        path = self.work / name
        if not _usable(path, marker):
            shutil.rmtree(path, ignore_errors=True)
            self.work.mkdir(parents=True, exist_ok=True)
            print(f"making {path}", file=sys.stderr)
            make(path)
        return path


def _usable(path: Path, marker: str) -> bool:
    """Whether what an earlier call made is there, and is what this version reads."""
    if marker == MANIFEST and (path / marker).exists():
        try:
            read_manifest(path)
        except ArtifactError:
            return False
    return (path / marker).exists()


def forms(bench: Bench) -> Figures:
    """Forms against each other and the bare backbone: one thread, one row of 128 tokens."""
    runtimes = {form: Runtime(bench.artifact, form) for form in FORMS}
    runtimes |= {"int8": Runtime(bench.int8, "folded"), "tuned": Runtime(bench.tuned, "folded")}
    with SideBySide(runtimes, bench.artifact, 1, TASKS[0]) as runtimes_alive:
        found = runtimes_alive.medians(LONG, bench.seconds, bench.rounds)
    return {
        "folded to bare": ratio(found, "folded", "bare"),
        "switchable to folded": ratio(found, "switchable", "folded"),
        "uniform bank to folded": ratio(found, "bank", "folded"),
        "int8 to fp32": ratio(found, "int8", "folded"),
        "tuned to bare": ratio(found, "tuned", "bare"),
    }


def tasks(bench: Bench) -> Figures:
    """Mixed batches, switching and adding: one thread."""
    runtimes = {form: Runtime(bench.artifact, form) for form in ("switchable", "bank")}
    with SideBySide(runtimes, bench.artifact, 1, TASKS[0]) as alive:
        return {
            "8 tasks in 8 rows of 128 to 1 task": alive.mixed_ratio("bank", MIXED_LONG, TASKS[:8], 8 * bench.seconds),
            "8 tasks in 8 rows of 16 to 1 task": alive.mixed_ratio("bank", MIXED_SHORT, TASKS[:8], 4 * bench.seconds),
            "switching, share of a call": alive.switching_share("switchable", LONG, TASKS[:4], 6 * bench.seconds),
            "adding a task, ms": alive.adding_ms("switchable", 20),
        }


def eager(bench: Bench) -> Figures:
    """Against PyTorch eager with the same adapters: two threads, one row of 16 tokens."""
    runtimes = {"folded": Runtime(bench.artifact, "folded"), "eager": Runtime(bench.bundle, "eager", EAGER)}
    runtimes |= {"int8": Runtime(bench.int8, "folded"), "tuned": Runtime(bench.tuned, "folded")}
    with SideBySide(runtimes, bench.artifact, 2, TASKS[0]) as alive:
        found = alive.medians(SHORT, bench.seconds, bench.rounds)
    return {f"{_kind(name)} to eager": ratio(found, name, "eager") for name in runtimes if name != "eager"}


def cold(bench: Bench) -> Figures:
    """First answer of a cold process, against importing ONNX Runtime alone; files are in the page cache."""
    asked = {name: _first_answer(bench.artifact, name == "hashed") for name in ("hashed", "not hashed")}
    hashed = {"tuned, hashed": True, "tuned, not hashed": False}
    asked |= {name: _first_answer(bench.tuned, verify, form="folded") for name, verify in hashed.items()}
    asked["import"] = ["-c", "import onnxruntime; print('{}', flush=True)"]
    for name, arguments in asked.items():
        timed_first_line(name, arguments)  # leaves bytecode and pages where an installed package that was used has them
    taken: dict[str, list[int]] = {name: [] for name in asked}
    for _ in range(bench.rounds):
        for name, arguments in asked.items():
            taken[name].append(timed_first_line(name, arguments)[0])
    imports = taken.pop("import")
    return {f"first answer to import, {name}": float(np.median(np.divide(ns, imports))) for name, ns in taken.items()}


def sessions(bench: Bench) -> Figures:
    """Memory (PSS) of a process with eight folded sessions, against one with a single session."""
    found = {}
    kinds = {
        "": (bench.artifact, "fast"),
        ", memory small": (bench.artifact, "small"),
        ", tuned": (bench.tuned, "fast"),
    }
    for name, (path, memory) in kinds.items():
        one, eight = (_pss_of_sessions(path, memory, count) for count in (1, 8))
        found[f"8 folded sessions to 1{name}"] = eight / one
    return found


def thousand(bench: Bench) -> Figures:
    """A thousand tasks: a random one per request, disk, and memory of each further one."""
    growth = _child(__file__, "--memory-of-thousand", str(bench.thousand))
    ratios = {}
    for kind, known in (("", False), ("known ", True)):
        found = thousand_tasks.latency(bench.thousand, 300, LONG.sequence, int(time.time()), known)
        ratios |= {f"random of 1,000 {kind}tasks to one, {share}": found[f"{share} ratio"] for share in ("p50", "p99")}
    return ratios | {
        "disk of 1,000 tasks to what they need": thousand_tasks.disk(bench.thousand)["ratio"],
        "memory of a further task to masks and head": growth["ratio"],
    }


def exporting(bench: Bench) -> Figures:
    """Exporting fifty tasks folded, against exporting one; each in a process of its own."""
    bundle = bench.work / "bundle-50"
    if not bundle.exists():
        write_random_bundle(bundle, 50)
    taken = []
    for count in (1, 50):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            subprocess.run([sys.executable, __file__, "--export", bundle, f"{folder}/artifact", str(count)], check=True)
            taken.append(time.perf_counter() - start)
    return {"exporting 50 tasks to 1": taken[1] / taken[0]}


def training(bench: Bench) -> Figures:
    """A training step with masks, against one of the unshared adapter."""
    with tempfile.TemporaryDirectory() as folder:
        out, script = Path(folder) / "out.json", Path(__file__).with_name("training_step.py")
        command = [sys.executable, script, out, "--rounds", str(bench.rounds), "--steps", "2", "--batch", "8"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = json.loads(out.read_text())["to_unshared"]
    return {"training step to unshared": float(np.median(found["masked"]))}


GROUPS: dict[str, Callable[[Bench], Figures]] = {
    "forms": forms,
    "tasks": tasks,
    "eager": eager,
    "cold": cold,
    "sessions": sessions,
    "training": training,
    "thousand": thousand,
    "exporting": exporting,
}


def _kind(name: str) -> str:
    return {"folded": "fp32", "tuned": "tuned fp32"}.get(name, name)


def _first_answer(path: Path, verify: bool, form: str = "switchable") -> list[str]:
    ids = np.arange(1000, 1016)[None].tolist()
    inputs = {"input_ids": ids, "attention_mask": [[1] * 16], "token_type_ids": [[0] * 16]}
    asked = FirstAnswer(str(path), form, TASKS[0], verify, inputs)
    return ["-m", "propetl.runtime.bench.first_answer", json.dumps(asdict(asked))]


def _pss_of_sessions(path: Path, memory: str, count: int) -> int:
    return int(_child(FOLDED_SESSIONS, str(path), memory, str(count))["pss"])


def _child(script: str, *arguments: str) -> dict[str, float]:
    command = [sys.executable, script, *arguments]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _serve(kind: str, path: str, *rest: str) -> None:
    """What runs in a child process."""
    if kind == "--export":
        chosen = tuple(f"task-{index}" for index in range(int(rest[1])))
        export_bundle(Path(path), Path(rest[0]), ExportOptions(tasks=chosen))
    elif kind == "--memory-of-thousand":
        print(json.dumps(thousand_tasks.memory(Path(path), SHORT.sequence)))


if __name__ == "__main__":
    _serve(*sys.argv[1:])
