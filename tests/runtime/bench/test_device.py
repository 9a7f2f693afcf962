"""Times of a GPU on doubles of CUDA and TensorRT, in this process: samples, figures, tables."""

import io
import json
import sys
from dataclasses import asdict

import numpy as np
import onnxruntime
import pytest
from rich.console import Console

from propetl.errors import MissingExtraError
from propetl.runtime.artifact import read_artifact
from propetl.runtime.bench.device import DeviceSamples, measure_device
from propetl.runtime.bench.memory import Memory
from propetl.runtime.bench.messages import (
    Cell,
    Load,
    MeasureDevice,
    MeasureDeviceMemory,
    RunOnce,
    Vocabulary,
    answer_line,
    request_line,
    request_of,
)
from propetl.runtime.bench.plan import BenchOptions, plan_of
from propetl.runtime.bench.report import report_of
from propetl.runtime.bench.samples import TRUSTED, VERIFIED, MemoryStages, Samples, Start, Visit
from propetl.runtime.bench.subjects import load_subject
from propetl.runtime.bench.table import print_report
from propetl.runtime.bench.worker import Worker
from propetl.runtime.engines import EngineOptions, load_engine, ort
from propetl.runtime.engines.cuda_runtime import Cuda
from propetl.runtime.engines.ort_held import TimedOrtEngine
from tests.runtime.bench.test_report import CONDITIONS, MS
from tests.runtime.engines.cuda_double import CudaDouble
from tests.runtime.tiny_artifact import ROWS
from tests.runtime.tiny_tokenizer import INPUTS, VOCABULARY, token_ids

CELL = Cell(2, 8)
WORDS = Vocabulary(len(VOCABULARY), 0, INPUTS)
WAYS = {"tensorrt-plan": 4, "tensorrt-rtx-plan": 2}


@pytest.mark.parametrize("form", ["folded", "switchable", "bank"])
def test_a_worker_times_every_way_of_running_a_batch(machine, planned, provider, form):
    worker = Worker(load_subject)
    load = Load(str(planned.path), form, "topic", provider, 1, WORDS, timed=True)
    assert worker.answer(load)["ns"] > 0
    answer = worker.answer(request_of(request_line(MeasureDevice("topic", CELL, 0.01, 4))))
    json.loads(answer_line(answer))
    ways = [DeviceSamples(**item) for item in answer["samples"]]
    assert len(ways) == len({(way.transfers, way.graph) for way in ways}) == WAYS[provider]
    for way in ways:
        assert len(way.enqueue) == len(way.device) == len(way.wall) >= 4
        assert all(0 < handed <= done for handed, done in zip(way.enqueue, way.wall, strict=True))


def test_memory_of_the_gpu(machine, planned, provider):
    worker = Worker(load_subject)
    before = worker.answer(MeasureDeviceMemory(0))
    worker.answer(Load(str(planned.path), "bank", "topic", provider, 1, WORDS))
    worker.answer(RunOnce(("topic",), (CELL,)))
    after = worker.answer(MeasureDeviceMemory(0))
    assert before["total"] == after["total"] and before["free"] > after["free"] > 0


def test_where_cuda_cannot_be_asked_there_is_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert Worker(load_subject).answer(MeasureDeviceMemory(0)) == {}


def test_the_cpu_has_no_times_of_a_device(tiny):
    artifact = read_artifact(tiny.path)
    engine = load_engine(artifact, artifact.manifest.forms["bank"].graph, EngineOptions())
    assert measure_device(engine, {}, {}, 1, 1) == []


def test_onnx_runtime_in_a_stream_of_ours(tiny):
    """On the CPU with a stream that nothing goes into: what is bound where, and that it runs again and again."""
    artifact = read_artifact(tiny.path)
    graph = artifact.manifest.forms["switchable"].graph
    assert graph is not None
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(tiny.path))
    content = artifact.graph_bytes(graph.path)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    cuda = Cuda(CudaDouble(), 0)
    engine = TimedOrtEngine(session, onnxruntime, graph, ("cpu", 0), cuda.stream())
    prepared = engine.prepare(tiny.packs["mood"].tensors())
    samples = measure_device(engine, token_ids(ROWS["mood"]), prepared, 0.01, 3)
    assert [(item.transfers, item.graph) for item in samples] == [(True, False), (False, False)]
    with engine.held(token_ids(ROWS["mood"]), prepared) as call:
        np.testing.assert_allclose(call.logits(), tiny.expected("mood", ROWS["mood"]), atol=1e-5)


@pytest.mark.parametrize(
    ("provider", "told"),
    [
        ("cuda", {"user_compute_stream": "{}"}),
        ("tensorrt", {"user_compute_stream": "{}"}),
        ("nv-tensorrt-rtx", {"has_user_compute_stream": "1", "user_compute_stream": "{}"}),
    ],
)
def test_a_timed_provider_is_given_our_stream(provider, told):
    from propetl.runtime.engines.ort_options import stream_options
    from propetl.runtime.engines.providers import ort_provider

    expected = {key: value.format(1234) for key, value in told.items()}
    assert stream_options(ort_provider(provider), 1234) == expected


def test_timing_needs_the_bindings(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    artifact = read_artifact(tiny.path)
    with pytest.raises(MissingExtraError, match=r"needs 'cuda.bindings'"):
        ort.load(artifact, artifact.manifest.forms["bank"].graph, EngineOptions("cuda", timed=True))


class TestReport:
    """Figures of made-up samples."""

    @pytest.fixture
    def report(self, planned, provider):
        options = BenchOptions(forms=("bank",), batches=(2,), sequences=(8,), rounds=2, provider=provider)
        plan = plan_of(planned.path, options)
        made = Samples(
            memory={name: MemoryStages(Memory(1, 2, 1), Memory(3, 4, 3), None) for name in ("bare", "bank")},
            interpreter=[20 * MS] * 2,
            engine_import=[100 * MS] * 2,
        )
        for name in ("bare", "bank"):
            made.latency[name, CELL] = [Visit([10 * MS] * 3, 0)] * 2
            made.loads[name] = [900 * MS, 30 * MS]
            made.starts[name, VERIFIED] = made.starts[name, TRUSTED] = [Start(1, 1, 1, 1)] * 2
        made.device_bytes["bank"] = (5 << 20, 7 << 20)
        for factor in (1, 3):
            ways = [
                DeviceSamples(transfers, False, (MS // 10,), (factor * MS * (2 - transfers),), (2 * factor * MS,))
                for transfers in (True, False)
            ]
            made.device["bank", CELL].append(ways)
        return report_of(plan, made, CONDITIONS)

    def test_figures_of_the_device(self, report):
        copied, resident = report.device
        assert (copied.transfers, resident.transfers) == (True, False)
        assert (copied.device.p50, resident.device.p50) == (2.0, 4.0)
        assert (copied.enqueue.p50, copied.wall.p50, copied.device.calls) == (0.1, 4.0, 2)

    def test_figures_of_the_engines(self, report):
        bare, bank = report.engines
        assert (bank.first_load_ms, bank.load_ms) == (900.0, 30.0)
        assert (bank.loaded_bytes, bank.run_bytes) == (5 << 20, 7 << 20)
        assert bare.loaded_bytes is None and bare.build_seconds is None
        assert bank.build_seconds == 0.0
        assert report.settings["precision"] == "fp32"

    def test_as_json_and_as_tables(self, report):
        plain = json.loads(json.dumps(report.to_json()))
        assert plain["device"][0]["device"]["p50"] == 2.0
        assert plain["engines"][1] == asdict(report.engines[1])
        console = Console(file=io.StringIO(), width=80)
        print_report(console, report)
        text = console.file.getvalue()
        assert "On the GPU, ms per batch" in text and "Engines on the GPU" in text
        assert max(map(len, text.splitlines()[:30])) <= 80


def test_without_bindings_the_report_says_what_to_install(planned, provider, monkeypatch):
    from propetl.runtime.bench import plan

    monkeypatch.setattr(plan, "has_cuda_bindings", lambda: False)
    made = plan_of(planned.path, BenchOptions(provider=provider))
    assert made.in_gpu_memory and not made.times_device
    assert made.engine_module == {"tensorrt-plan": "tensorrt", "tensorrt-rtx-plan": "tensorrt_rtx"}[provider]
    assert "no times of the GPU itself: pip install cuda-bindings" in made.notes
