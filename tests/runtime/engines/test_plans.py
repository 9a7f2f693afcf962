"""Engines of plans on doubles of CUDA and TensorRT, through a session: what needs no device is as on one."""

import gc
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from propetl.bundle.tensors import tensor_bytes
from propetl.errors import ArtifactError, BackendError, ConfigurationError, MissingExtraError
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions, load_engine
from propetl.runtime.selftest import self_test
from propetl.runtime.session import Session
from propetl.task import TaskSpec
from tests.runtime.engines.cuda_double import CudaDouble
from tests.runtime.engines.planned import (
    RANGES,
    TARGETS,
    change_engines,
    engines_of,
    write_engines,
    write_planned,
)
from tests.runtime.tiny_artifact import ROWS
from tests.runtime.tiny_tokenizer import token_ids


def engine_of(planned, provider="tensorrt-plan", form="switchable"):
    artifact = read_artifact(planned.path)
    return load_engine(artifact, artifact.manifest.forms[form].graph, EngineOptions(provider))


@pytest.mark.parametrize("form", ["folded", "switchable", "bank"])
def test_every_task_of_every_form(machine, planned, provider, form):
    with Session.open(planned.path, provider, form=form) as session:
        for _ in range(3):  # at first, captured, and as a graph
            for task, rows in ROWS.items():
                np.testing.assert_allclose(session.run(task, rows), planned.expected(task, rows), atol=1e-5)
        mixed = [(task, row) for task in ROWS for row in ROWS[task]]
        for (task, row), logits in zip(mixed, session.run_mixed(mixed), strict=True):
            np.testing.assert_allclose(logits, planned.expected(task, [row])[0], atol=1e-5)


def test_the_self_test_knows_the_precision_of_the_plans(machine, planned, provider):
    change_engines(planned, precision="fp16")
    report = self_test(planned.path, "bank", provider)
    assert report.passed, report.breaches
    assert report.precision == "fp16"
    assert {comparison.tolerance.absolute for comparison in report.comparisons} == {1e-2}


def test_the_plan_says_what_the_manifest_says(machine, planned, provider):
    engine = engine_of(planned, provider)
    graph = read_artifact(planned.path).manifest.forms["switchable"].graph
    assert graph is not None
    assert {item.name: item.dtype for item in engine.inputs()} == {item.name: item.dtype for item in graph.inputs}
    (logits,) = engine.outputs()
    assert (logits.name, logits.dtype, logits.shape) == ("logits", "float32", ("?", "?"))


def test_tasks_switch_without_copies_of_their_tensors(machine, planned, provider):
    engine = engine_of(planned, provider)
    prepared = {task: engine.prepare(planned.packs[task].tensors()) for task in ("mood", "topic")}
    for _ in range(4):
        for task, tensors in prepared.items():
            machine.cuda.calls.clear()
            logits = engine.run(token_ids(ROWS[task]), tensors)
            np.testing.assert_allclose(logits, planned.expected(task, ROWS[task]), atol=1e-5)
            assert machine.cuda.calls.count("HostToDevice") <= 3  # the token ids


def test_a_shape_that_recurs_is_captured_the_second_time_and_launched_from_then_on(machine, tmp_path):
    planned = write_planned(tmp_path / "artifact")
    engine = engine_of(planned)
    prepared = engine.prepare(planned.packs["mood"].tensors())
    machine.cuda.calls.clear()
    for count in range(5):
        engine.run(token_ids(["good film"]), prepared)
        assert machine.cuda.calls.count("launch") == max(0, count)
    assert machine.cuda.calls.count("instantiate") == 1
    engine.run(token_ids(["good film a"]), prepared)
    assert machine.cuda.calls.count("launch") == 4


def test_graphs_do_not_outlive_the_buffers_that_they_read(machine, tmp_path):
    planned = write_planned(
        tmp_path / "artifact", ranges=({"batch": (1, 1, 512), "sequence": (1, 8, 32), "labels": (1, 2, 8)},)
    )
    engine = engine_of(planned)
    prepared = engine.prepare(planned.packs["mood"].tensors())
    small, large = ["good film"], ["a b c d e f g h"] * 400
    for rows in (small, small, small, large, small, small, small, large, large, large):
        logits = engine.run(token_ids(rows), prepared)
        np.testing.assert_allclose(logits, planned.expected("mood", rows), atol=1e-5)


def test_rtx_captures_and_compiles_by_itself_and_keeps_what_it_compiled(machine, tmp_path):
    planned = write_planned(tmp_path / "artifact", "tensorrt-rtx")
    cache = tmp_path / "cache" / "propetl" / "engines"
    for start in range(2):
        engine = engine_of(planned, "tensorrt-rtx-plan")
        for _ in range(3):
            engine.run(token_ids(["good film"]), engine.prepare(planned.packs["mood"].tensors()))
        context = machine.library["tensorrt-rtx"].contexts[-1]
        assert context.config.cuda_graph_strategy == "whole"
        assert len(context.config.cache.kernels) == 3 * (start + 1)
        del engine, context
        machine.library["tensorrt-rtx"].contexts.clear()
        gc.collect()
        (kernels,) = cache.glob("*/kernels")
        assert len(json.loads(kernels.read_bytes())) == 3 * (start + 1)
    assert "launch" not in machine.cuda.calls


def test_a_batch_smaller_than_the_profile_is_filled_up(machine, tmp_path):
    planned = write_planned(tmp_path / "artifact", ranges=(RANGES | {"batch": (4, 4, 8), "sequence": (16, 16, 32)},))
    with Session.open(planned.path, "tensorrt-plan", form="bank") as session:
        for task in ROWS:
            np.testing.assert_allclose(session.run(task, ROWS[task]), planned.expected(task, ROWS[task]), atol=1e-5)


def test_more_rows_than_a_profile_takes_are_run_in_parts(machine, planned, provider):
    rows = [(task, row) for task in ROWS for row in ROWS[task]] * 3  # 36, profiles take 8
    with Session.open(planned.path, provider, form="bank", batch_size=32) as session:
        for (task, row), logits in zip(rows, session.run_mixed(rows), strict=True):
            np.testing.assert_allclose(logits, planned.expected(task, [row])[0], atol=1e-5)


def test_rows_longer_than_every_profile_are_refused_in_one_line(machine, planned, provider):
    ids = np.full((2, 33), 5)
    with Session.open(planned.path, provider, form="bank") as session:
        with pytest.raises(
            BackendError, match=r"bank/model.plan: batch 2, sequence 33 is outside all its profiles"
        ) as caught:
            session.run("mood", {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        assert "\n" not in str(caught.value)
        assert len(session.run("mood", ["good"])) == 1


def test_the_profile_for_the_shape_is_set(machine, tmp_path):
    planned = write_planned(
        tmp_path / "artifact", ranges=(RANGES | {"batch": (1, 1, 1)}, RANGES | {"batch": (2, 8, 8)})
    )
    engine = engine_of(planned)
    prepared = engine.prepare(planned.packs["mood"].tensors())
    (profiles,) = {tuple(map(str, machine.library["tensorrt"].engines[-1].plan["profiles"]))}
    for rows, profile in ((1, 0), (5, 1), (1, 0), (8, 1)):
        logits = engine.run(token_ids(["good"] * rows), prepared)
        assert len(logits) == rows
        assert str(machine.library["tensorrt"].contexts[-1].profile) == profiles[profile]


def test_a_task_with_more_labels_is_added(machine, planned, provider, tmp_path):
    info = TaskSpec("task", ("text",), labels=tuple("abcdefg"))
    pack = planned.model.pack("wide", info, seed=7)
    (tmp_path / "wide.safetensors").write_bytes(pack.to_bytes())
    with Session.open(planned.path, provider, form="switchable") as session:
        session.add_task(tmp_path / "wide.safetensors")
        np.testing.assert_allclose(session.run("wide", ["good"]), planned.expected("wide", ["good"], pack), atol=1e-5)


def test_many_threads_have_a_context_each_and_not_more_than_four(machine, planned, provider):
    jobs = [(task, row) for task in ROWS for row in ROWS[task]] * 20
    with Session.open(planned.path, provider, form="switchable") as session, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda job: session.run(job[0], [job[1]]), jobs))
    for (task, row), logits in zip(jobs, found, strict=True):
        np.testing.assert_allclose(logits, planned.expected(task, [row]), atol=1e-5)
    assert 1 <= len(machine.library[TARGETS[provider]].contexts) <= 4


def test_a_version_compatible_plan_may_bring_code_and_no_other(machine, tmp_path):
    """It holds a runtime of the version that built it, and TensorRT loads that only where it is told to."""
    planned = write_planned(tmp_path / "artifact")
    change_engines(planned, version_compatible=True)
    plan = json.loads((planned.path / "engines/bank/model.plan").read_text()) | {"host_code": True}
    planned.rewrite("engines/bank/model.plan", json.dumps(plan).encode())
    machine.library["tensorrt"].__version__ = "10.12.0"
    with Session.open(planned.path, "tensorrt-plan", form="bank") as session:
        np.testing.assert_allclose(session.run("mood", ["good"]), planned.expected("mood", ["good"]), atol=1e-5)
    machine.library["tensorrt"].__version__ = "10.9.0"
    change_engines(planned, version_compatible=False)
    with pytest.raises(BackendError, match="refuses it: the plan has code of the host"):
        Session.open(planned.path, "tensorrt-plan", form="bank")


def test_memory_is_given_back(machine, planned, provider):
    engine = engine_of(planned, provider)
    prepared = engine.prepare(planned.packs["mood"].tensors())
    engine.run(token_ids(["good"]), prepared)
    assert machine.cuda.memory
    del engine, prepared
    machine.library[TARGETS[provider]].contexts.clear()
    gc.collect()
    assert machine.cuda.memory == {} and machine.cuda.streams == {}


def test_a_held_call_is_timed_on_the_device(machine, planned, provider):
    engine = engine_of(planned, provider)
    prepared = engine.prepare(planned.packs["mood"].tensors())
    with engine.held(token_ids(ROWS["mood"]), prepared) as call:
        machine.cuda.calls.clear()
        for graph in (False, True):
            for _ in range(3):
                timing = call.timed(transfers=False, graph=graph)
                assert timing.device > 0 and 0 < timing.enqueue <= timing.wall
        assert not {"HostToDevice", "DeviceToHost"} & set(machine.cuda.calls)
        assert ("launch" in machine.cuda.calls) == (provider == "tensorrt-plan")
        call.enqueue(transfers=True, graph=True)
        call.wait()
        np.testing.assert_allclose(call.logits(), planned.expected("mood", ROWS["mood"]), atol=1e-5)


class TestRefitted:
    """One plan for all folded tasks. The double runs the graph of the task whose weights it was given last."""

    @pytest.fixture
    def refitted(self, planned):
        engines = [engine for engine in engines_of(planned) if engine.form == "folded"]
        tasks = {engine.task: engine for engine in engines}
        plan = json.loads((planned.path / engines[0].path).read_text())
        graphs = {task: f"folded/{task}/model.onnx" for task in tasks}
        plan |= {"refittable": ["down", "up"], "graphs": list(graphs.values()), "widest": 3}
        (planned.path / "engines/shared.plan").write_text(json.dumps(plan))
        refits = {}
        for number, task in enumerate(tasks):
            refits[task] = f"engines/{task}.safetensors"
            weights = {name: np.full(2, number, dtype=np.float32) for name in ("down", "up")}
            described = {"format": "propetl-refit", "version": 1, "task": task}
            (planned.path / refits[task]).write_bytes(tensor_bytes(weights, described))
        write_engines(planned.path, [replace(engines[0], path="engines/shared.plan", task=None, refits=refits)])
        return planned

    def test_every_task_answers_with_its_own_weights_whatever_ran_before(self, machine, refitted, provider):
        with Session.open(refitted.path, provider, form="folded") as session:
            for _ in range(3):
                for task, rows in ROWS.items():
                    for _ in range(3):
                        np.testing.assert_allclose(session.run(task, rows), refitted.expected(task, rows), atol=1e-5)
        assert len(machine.library[TARGETS[provider]].engines) == 1  # one plan in memory
        assert machine.library[TARGETS[provider]].refits == 3 * len(ROWS)  # none while a task runs again

    def test_threads_do_not_mix_weights(self, machine, refitted, provider):
        jobs = [(task, row) for task in ROWS for row in ROWS[task]] * 5
        with Session.open(refitted.path, provider, form="folded") as session, ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda job: session.run(job[0], [job[1]]), jobs))
        for (task, row), logits in zip(jobs, found, strict=True):
            np.testing.assert_allclose(logits, refitted.expected(task, [row]), atol=1e-5)

    def test_weights_of_another_task_are_refused(self, machine, refitted, provider):
        other = (refitted.path / "engines/topic.safetensors").read_bytes()
        (refitted.path / "engines/mood.safetensors").write_bytes(other)
        change_engines(refitted)  # records the file as it is
        session = Session.open(refitted.path, provider, form="folded")
        with pytest.raises(ArtifactError, match="holds the weights of 'topic', not of 'mood'"):
            session.run("mood", ["good"])

    def test_a_plan_without_such_weights_is_refused(self, machine, refitted, provider):
        plan = json.loads((refitted.path / "engines/shared.plan").read_text()) | {"refittable": ["down"]}
        refitted.rewrite("engines/shared.plan", json.dumps(plan).encode())
        session = Session.open(refitted.path, provider, form="folded")
        with pytest.raises(BackendError, match=r"weights 'up' for engines/shared\.plan"):
            session.run("mood", ["good"])


class TestRefused:
    """Each in one line, before anything runs."""

    @pytest.fixture
    def planned(self, tmp_path):
        return write_planned(tmp_path / "artifact")

    def refuse(self, planned, error, message, provider="tensorrt-plan", **options):
        with pytest.raises(error, match=message) as caught:
            Session.open(planned.path, provider, form="bank", **options)
        assert "\n" not in str(caught.value)

    def test_no_library(self, machine, planned, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        self.refuse(planned, MissingExtraError, r"pip install .*\[tensorrt\]'")

    def test_no_bindings(self, machine, planned, monkeypatch):
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
        self.refuse(
            planned, MissingExtraError, r"running an engine needs 'cuda.bindings'.*pip install .*\[tensorrt\]'"
        )

    def test_an_old_library(self, machine, planned):
        machine.library["tensorrt"].__version__ = "8.6.1"
        self.refuse(planned, BackendError, "needs TensorRT 10 or 11; found 8.6.1")

    def test_no_gpu(self, machine, planned, monkeypatch):
        monkeypatch.setattr(machine.cuda, "cudaGetDeviceCount", lambda: (machine.cuda.cudaError_t(700), None))
        self.refuse(
            planned, BackendError, "CUDA refuses cudaGetDeviceCount: cudaErrorIllegalAddress; look at nvidia-smi"
        )

    def test_no_such_gpu(self, machine, planned):
        self.refuse(planned, BackendError, "there are 1 GPUs here, and --device 2 counts from 0", device=2)

    def test_another_gpu(self, machine, planned):
        machine.cuda.major, machine.cuda.minor = 12, 0
        self.refuse(
            planned, BackendError, "are for SM 86, the GPU here is SM 120: propetl build them again on this device"
        )

    def test_another_version(self, machine, planned):
        machine.library["tensorrt"].__version__ = "10.12.0"
        self.refuse(planned, BackendError, r"were built by tensorrt 10\.9\.0, here is 10\.12\.0")

    def test_no_engines(self, machine, planned):
        write_engines(planned.path, [])
        self.refuse(planned, BackendError, "the artifact has no engine for graph bank of target tensorrt; it has none")

    def test_a_precision_that_is_not_there(self, machine, planned):
        self.refuse(planned, BackendError, "no engine at int8 for graph bank; it has bank fp32", precision="int8")

    def test_a_precision_for_graphs(self, machine, planned):
        words = "precision chooses among engines of tensorrt-plan and tensorrt-rtx-plan; provider 'cpu' runs graphs"
        self.refuse(planned, ConfigurationError, words, provider="cpu", precision="fp16")

    def test_a_plan_that_the_library_refuses(self, machine, planned):
        planned.rewrite("engines/bank/model.plan", b"not a plan")
        words = r"engines/bank/model.plan: tensorrt 10\.9\.0 refuses it: magicTag does not match the plan"
        self.refuse(planned, BackendError, words)

    def test_no_memory(self, machine, planned):
        machine.cuda.room = 1000
        with (
            Session.open(planned.path, "tensorrt-plan", form="bank") as session,
            pytest.raises(BackendError, match="CUDA refuses cudaMalloc: cudaErrorMemoryAllocation"),
        ):
            session.run("mood", ["good"])


def test_doubles_have_what_the_real_libraries_have():
    """No name is called here that the libraries do not have."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    for name in (name for name in dir(CudaDouble) if name.startswith("cuda")):
        assert hasattr(runtime, name), name


def test_the_real_bindings_say_that_there_is_no_driver(tmp_path):
    """Where there is one, the test has nothing to say."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("a GPU is here")
    pytest.importorskip("tensorrt_rtx")
    planned = write_planned(tmp_path / "artifact", "tensorrt-rtx")
    with pytest.raises(BackendError, match=r"CUDA refuses cudaGetDeviceCount: .*; look at nvidia-smi"):
        Session.open(planned.path, "tensorrt-rtx-plan", form="bank")
