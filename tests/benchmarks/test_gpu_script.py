"""``benchmarks/gpu.sh``: what it says of a machine, and a dry run of the whole on the CPU."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from propetl.cli.main import main
from propetl.runtime.engines.providers import PROVIDERS, plan_providers
from tests.device_env import ROOT

GPU_PROVIDERS = [name for name, one in PROVIDERS.items() if one.memory == "cuda"]
PACKAGES = {
    "tensorrt": "10.9",
    "tensorrt_rtx": "1.7",
    "cuda-bindings": "13",
    "onnxruntime-ep-nv-tensorrt-rtx": "0.5",
}


def module(name):
    """A module beside the script, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made  # dataclasses look there
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="module")
def gpu_machine():
    return module("gpu_machine")


@pytest.fixture
def full(gpu_machine):
    """A machine that has everything."""
    served = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    return gpu_machine.Machine(89, {"name": "a GPU"}, PACKAGES, served, (86, 89, 120), True)


def test_every_provider_of_a_gpu_is_looked_for(gpu_machine, full):
    assert gpu_machine.reasons_against(full) == dict.fromkeys(GPU_PROVIDERS, "")


def test_without_a_gpu_nothing_runs(gpu_machine, full):
    bare = dataclasses.replace(full, compute_capability=None)
    assert gpu_machine.reasons_against(bare) == dict.fromkeys(GPU_PROVIDERS, "no GPU")


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        (
            {"ort_providers": ()},
            {"cuda": "onnxruntime-gpu is not installed", "tensorrt": "onnxruntime-gpu is not installed"},
        ),
        ({"nvinfer": False}, {}),
        (
            {"nvinfer": False, "packages": PACKAGES | {"tensorrt": "11.4.0.106"}},
            {"tensorrt": "libnvinfer.so.10 is not there"},
        ),
        (
            {"compute_capability": 90},
            dict.fromkeys(("nv-tensorrt-rtx", "tensorrt-rtx-plan"), "TensorRT for RTX does not support SM 90"),
        ),
        (
            {"packages": {"tensorrt": "10.9", "tensorrt_rtx": "1.7"}},
            {
                "nv-tensorrt-rtx": "onnxruntime-ep-nv-tensorrt-rtx is not installed",
                "tensorrt-plan": "cuda-bindings is not installed",
                "tensorrt-rtx-plan": "cuda-bindings is not installed",
            },
        ),
    ],
)
def test_what_is_missing_is_named(gpu_machine, full, changes, reasons):
    found = gpu_machine.reasons_against(dataclasses.replace(full, **changes))
    assert {name: reason for name, reason in found.items() if reason} == reasons


@pytest.fixture
def script(gpu_machine, monkeypatch):
    """The script as a module, which finds its neighbours."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return module("gpu")


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_every_command_is_one_that_there_is(script, full, tmp_path, monkeypatch, device):
    """Also those that need a GPU: their options are read as the command line reads them."""
    asked = []

    def noted(self, name, command):
        asked.append((name, command))
        return self._add(script.Step(name, script.NOT_RUN))

    def passed(self, name, command):
        noted(self, name, command)
        self.steps[-1].status = script.PASSED if "bench" not in name else script.NOT_RUN
        return self.steps[-1]

    monkeypatch.setattr(script.Run, "_command", passed)
    monkeypatch.setattr(script.Run, "_call", lambda self, name, work: self._add(script.Step(name, script.PASSED)))
    monkeypatch.setattr(script.Run, "_source", lambda self, name, size: "somewhere")
    script.Run(tmp_path, script.FULL, full, device, ("minilm", "roberta-base", "t5-small")).all()
    read = 0
    for name, command in asked:
        if command[1:3] != ["-m", "propetl"]:
            assert command[1:3] == ["-m", "pytest"], name
            continue
        found = main.get_command(click.Context(main), command[3])
        assert found is not None
        monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: Path(value))  # nothing is there yet
        found.make_context(command[3], list(command[4:]))
        read += 1
    names = [name for name, _ in asked]
    assert read > 40 and len(names) == len(set(names))
    for provider in ("cuda", "tensorrt", "nv-tensorrt-rtx"):
        assert f"minilm: validate {provider}" in names and f"roberta-base: bench {provider}" in names
    for provider in plan_providers():
        for precision in ("fp32", "tf32", "fp16", "bf16", "int8"):
            assert f"minilm: build {provider} {precision}" in names
            assert f"roberta-base: bench {provider} {precision}" in names
        for precision in ("fp32", "fp16", "bf16"):
            assert {f"t5-small: {step} {provider} {precision}" for step in ("build", "validate", "bench")} <= set(names)
    for precision in ("fp16", "bf16"):
        halves = {f"{one}: {step} cuda {precision}" for one in ("minilm", "t5-small") for step in ("validate", "bench")}
        assert halves <= set(names)
    assert ("minilm: bench cpu fp16" in names) == (device == "cpu")
    assert "t5-small: bench cuda" in names and "t5-small: bench tensorrt" not in names
    assert ("minilm: bench cpu" in names) == (device == "cpu")


def test_every_file_with_tests_of_a_gpu_is_collected(script):
    mark = "mark." + "gpu"
    files = [path for path in (ROOT / "tests").rglob("test_*.py") if mark in path.read_text()]
    assert set(script.TESTS) == {str(path.relative_to(ROOT)) for path in files}


def test_what_is_missing_for_a_step_is_the_reason_why_it_does_not_run(script, full, tmp_path, monkeypatch):
    """A server with a GPU and no more than PyTorch: nothing is reported as failed."""
    monkeypatch.setattr(script, "missing_modules", lambda *names: f"not installed: {', '.join(names)}")
    monkeypatch.setattr(script.Run, "_command", lambda *given: pytest.fail("it was tried"))
    run = script.Run(tmp_path, script.FULL, full, "gpu", ("minilm", "t5-small"))
    run.all()
    found = {step.name: (step.status, step.detail) for step in run.steps}
    assert set(found) == {"tests marked gpu", "train one task", "minilm: export graphs", "t5-small: export graphs"}
    assert all(status == script.NOT_RUN and "not installed: " in detail for status, detail in found.values())


def test_engines_are_built_in_a_copy_that_shares_the_bytes(script, tmp_path):
    (tmp_path / "artifact" / "bank").mkdir(parents=True)
    (tmp_path / "artifact" / "bank" / "model.onnx").write_text("graph")
    script._linked(tmp_path / "artifact", tmp_path / "copy")
    copied = tmp_path / "copy" / "bank" / "model.onnx"
    assert copied.samefile(tmp_path / "artifact" / "bank" / "model.onnx")


def run_script(*arguments, timeout=600):
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment, cwd="/")


def test_help():
    done = run_script("--help")
    assert done.returncode == 0, done.stderr
    assert "a dry run of tiny models" in done.stdout


@pytest.mark.slow
def test_a_dry_run_on_the_cpu(gpu_machine, tmp_path):
    done = run_script(
        "--device", "cpu", "--backbone", "minilm", "--work", tmp_path / "work", "--results", tmp_path / "results"
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = json.loads((tmp_path / "results" / "gpu_dry_run.json").read_text())
    steps = {step["name"]: step for step in report["steps"]}
    assert report["dry_run"] is True
    passed = {name for name, step in steps.items() if step["status"] == "passed"}
    assert passed >= {"train one task", "minilm: export graphs", "minilm: validate cpu", "minilm: bench cpu"}
    assert "a dry run" in steps["train one task"]["detail"]
    assert steps["minilm: validate cpu"]["figures"]["largest_error"] < 1e-5
    halves = steps["minilm: validate cpu fp16"]["figures"]
    assert halves["precision"] == "fp16" and halves["comparisons"] > 0
    assert steps["minilm: bench cpu fp16"]["status"] == "passed"
    cells = {
        (item["runtime"], item["batch"], item["sequence"])
        for item in steps["minilm: bench cpu"]["figures"]["bench"]["latency"]
    }
    assert cells == {
        (form, batch, length)
        for form in ("bare", "folded", "switchable", "bank")
        for batch in (1, 2)
        for length in (8, 16)
    }
    if gpu_machine.machine_here().compute_capability is None:
        for name in ("tests marked gpu", *(f"minilm: {provider}" for provider in GPU_PROVIDERS)):
            assert (steps[name]["status"], steps[name]["detail"]) == ("not run", "no GPU"), name
    page = (tmp_path / "results" / "gpu_dry_run.md").read_text()
    assert page.startswith("# Dry run on the CPU: no figure of this page is of a GPU")
    assert "| 2 × 16 | bank |" in page


@pytest.mark.slow
def test_a_step_that_fails_is_reported_and_the_others_run(tmp_path):
    (tmp_path / "work" / "train").mkdir(parents=True)
    (tmp_path / "work" / "train" / "data").write_text("in the way")
    (tmp_path / "work" / "minilm").write_text("in the way")
    arguments = (
        "--device",
        "cpu",
        "--backbone",
        "minilm",
        "--work",
        tmp_path / "work",
        "--results",
        tmp_path / "results",
    )
    done = run_script(*arguments)
    assert done.returncode == 1
    report = json.loads((tmp_path / "results" / "gpu_dry_run.json").read_text())
    failed = {step["name"]: step["detail"] for step in report["steps"] if step["status"] == "failed"}
    assert "generate data" in failed and "exit code 2" in failed["generate data"]
    assert any(name.startswith("minilm: bundle") for name in failed)
