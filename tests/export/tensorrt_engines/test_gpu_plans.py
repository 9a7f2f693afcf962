"""Engines built and run on the GPU that is here, against PyTorch: ``python -m pytest -m gpu``."""

import importlib.util

import numpy as np
import pytest

from propetl.export.options import ExportOptions
from propetl.export.tensorrt_engines.existing import add_engines
from propetl.export.tensorrt_engines.options import TensorRTOptions, parse_shapes
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions, load_engine
from propetl.runtime.report import TOLERANCES
from propetl.runtime.selftest import self_test
from propetl.runtime.session import Session
from tests.export.random_artifact import ALL_FORMS, Case, make
from tests.export.random_text_artifact import make_text_artifact

PROVIDERS = {"tensorrt-plan": ("tensorrt", "tensorrt"), "tensorrt-rtx-plan": ("tensorrt-rtx", "tensorrt_rtx")}
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
SHAPES = (parse_shapes("1x1/1x16/1x64"), parse_shapes("2x1/8x32/16x64"))
CONFIGS = (
    PrototypeConfig(bottleneck=6, sparsity=0.4),
    PrototypeConfig("lora", rank=3, alpha=4.5),
    PrototypeConfig("prefix", prefix_length=4),
)

pytestmark = [pytest.mark.gpu, pytest.mark.parametrize("provider", PROVIDERS)]


def target_of(provider):
    """What engines are built for; without the library that runs them, a test has nothing to run on."""
    target, module = PROVIDERS[provider]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    return target


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A function from provider and method to an artifact with engines for the GPU here."""
    made = {}

    def of(provider, config):
        target = target_of(provider)
        key = (provider, config.method)
        if key not in made:
            engines = TensorRTOptions((target,), PRECISIONS, SHAPES)
            options = ExportOptions(forms=ALL_FORMS, engines=engines)
            made[key] = make(tmp_path_factory.mktemp("planned"), Case("bert", config), options)
        return made[key]

    return of


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("form", ALL_FORMS)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.method)
def test_answers_are_those_of_pytorch(planned, provider, config, form, precision):
    made, tolerance = planned(provider, config), TOLERANCES[precision]
    with Session.open(made.artifact, provider, form=form, precision=precision) as session:
        for task in session.tasks:
            for rows, length in ((1, 1), (1, 64), (3, 7), (16, 64), (40, 20)):
                inputs = made.inputs(rows, length, seed=rows)
                for _ in range(3):  # at first, captured, and as a graph
                    found = session.run(task, inputs)
                    expected = made.logits(task, inputs)
                    np.testing.assert_allclose(found, expected, atol=tolerance.absolute, rtol=tolerance.relative)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_refitted_plan_answers_for_every_task(provider, precision, tmp_path):
    """Tasks in turn, so that every call but the repeated ones refits, and every task is come back to."""
    target = target_of(provider)
    engines = TensorRTOptions((target,), (precision,), SHAPES, refit=True)
    made = make(tmp_path, Case("bert", CONFIGS[0]), ExportOptions(forms=("folded",), engines=engines))
    tolerance = TOLERANCES[precision]
    with Session.open(made.artifact, provider, precision=precision) as session:
        for _ in range(3):
            for task in session.tasks:
                inputs = made.inputs(3, 16)
                for _ in range(3):
                    found, expected = session.run(task, inputs), made.logits(task, inputs)
                    np.testing.assert_allclose(found, expected, atol=tolerance.absolute, rtol=tolerance.relative)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_texts_are_those_of_pytorch(provider, family, precision, tmp_path):
    """Encoder, decoders and their cache, folded and in two stages."""
    target = target_of(provider)
    made = make_text_artifact(tmp_path, CONFIGS[1], family, ("folded", "switchable"))
    options = TensorRTOptions((target,), (precision,), (parse_shapes("1x1/2x16/16x64"),))
    add_engines(made.artifact, options, lambda line: None, lambda phase, share: None)
    report = self_test(made.artifact, provider=provider, precision=precision)
    assert report.passed, report.breaches


def test_the_self_test_passes(planned, provider):
    made = planned(provider, CONFIGS[0])
    for precision in PRECISIONS:
        report = self_test(made.artifact, provider=provider, precision=precision)
        assert report.passed, report.breaches


def test_a_held_call_is_shorter_without_transfers(planned, provider):
    """Not a benchmark: events of the device give times at all, and of the right size."""
    made = planned(provider, CONFIGS[0])
    artifact = read_artifact(made.artifact)
    graph = artifact.manifest.forms["bank"].graph
    engine = load_engine(artifact, graph, EngineOptions(provider))
    feeds = made.inputs(16, 64) | {"task_id": np.zeros(16, dtype=np.int64)}
    with engine.held(feeds, {}) as call:
        times = {
            transfers: sorted(call.timed(transfers, graph=True).device for _ in range(50))[25]
            for transfers in (False, True)
        }
    assert 0 < times[False] <= times[True] < 1e9
