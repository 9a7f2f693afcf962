"""Engines that need a GPU to build or to run: `pytest -m gpu`."""

import numpy as np
import pytest

from propetl.errors import ProPETLError
from propetl.export.options import ExportOptions
from propetl.export.tensorrt_engines.builder import EngineBuilder
from propetl.export.tensorrt_engines.flavour import gpu_here
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.export.writer import export_bundle
from propetl.runtime.engines.tensorrt_flavour import FLAVOURS
from propetl.runtime.report import TOLERANCES
from propetl.runtime.session import Session

pytestmark = pytest.mark.gpu

PRECISIONS = ("fp32", "tf32", "fp16", "int8")
# Beyond the tolerance of its precision a plan is wrong, but tiny random models amplify the rounding of int8.
FACTOR = {"int8": 5.0}


@pytest.fixture(scope="module", params=list(FLAVOURS))
def target(request):
    """A target whose library is here and builds for the GPU that is here."""
    try:
        EngineBuilder(FLAVOURS[request.param], TensorRTOptions((request.param,)))
    except ProPETLError as error:
        pytest.skip(str(error))
    return request.param


def exported(bundle, folder, target, **chosen):
    engines = TensorRTOptions((target,), compute_capabilities=(gpu_here(),), **chosen)
    export_bundle(bundle.path, folder, ExportOptions(engines=engines))
    return folder


def close(found, expected, precision):
    allowed = TOLERANCES[precision]
    assert found.shape == expected.shape
    limit = FACTOR.get(precision, 1.0) * (allowed.absolute + allowed.relative * np.abs(expected).max())
    assert np.abs(found - expected).max() <= limit


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_plan_is_refitted_to_and_fro(lora, tmp_path, target, precision):
    """Each task's weights replace all of the other's: on the way back the answers are the same bits."""
    folder = exported(lora[1], tmp_path / "out", target, precisions=(precision,), refit=True)
    texts = ["a man is not a dog", "good"]
    with Session.open(folder, "cpu") as session:
        expected = {task: session.run(task, texts) for task in session.tasks}
    with Session.open(folder, f"{target}-plan", precision=precision) as session:
        found = [session.run(task, texts) for task in ("two", "three", "two", "three")]
    close(found[0], expected["two"], precision)
    close(found[1], expected["three"], precision)
    assert np.array_equal(found[0], found[2]) and np.array_equal(found[1], found[3])
    assert not np.array_equal(found[0], found[1][:, :2])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_stripped_plan_gets_its_weights_back(plain, tmp_path, target, precision):
    bundle = plain[1]
    whole = exported(bundle, tmp_path / "whole", target, precisions=(precision,))
    folder = exported(bundle, tmp_path / "out", target, precisions=(precision,), strip_weights=True)
    plans = [next((root / "engines/folded/two").glob("*.plan")).stat().st_size for root in (folder, whole)]
    assert plans[0] < plans[1]
    with Session.open(folder, "cpu") as session:
        expected = session.run("two", ["a man"])
    with Session.open(folder, f"{target}-plan", precision=precision) as session:
        close(session.run("two", ["a man"]), expected, precision)
