"""The two libraries: what is said where one is missing, does not start, or makes nothing."""

import builtins
import types

import pytest

from propetl.errors import BackendError, MissingExtraError
from propetl.installation import install_line
from propetl.runtime.engines import tensorrt_flavour
from propetl.runtime.engines.provider import PlanProvider
from propetl.runtime.engines.providers import PROVIDERS
from propetl.runtime.engines.tensorrt_flavour import FLAVOURS, created, load_library
from tests.runtime.engines.cuda_double import CudaDouble
from tests.runtime.engines.tensorrt_double import TensorRTDouble

TENSORRT, RTX = FLAVOURS["tensorrt"], FLAVOURS["tensorrt-rtx"]

# Every name of the libraries that is used, by class. Looked up in NVIDIA's own bindings of TensorRT 10.2, 10.3, 10.13,
# 10.16 and 11.4 as well, which have all but those of RTX; 10.0 and 10.1 lack those of REFITTED.
USED = {
    "Builder": "create_network create_builder_config create_optimization_profile build_serialized_network",
    "INetworkDefinition": "num_inputs num_outputs get_input get_output",
    "OnnxParser": "parse num_errors get_error",
    "ParserError": "node_name node_operator desc",
    "IOptimizationProfile": "set_shape",
    "IBuilderConfig": "set_flag clear_flag set_memory_pool_limit builder_optimization_level add_optimization_profile "
    "progress_monitor hardware_compatibility_level create_timing_cache set_timing_cache get_timing_cache",
    "ITimingCache": "serialize",
    "IProgressMonitor": "phase_start step_complete phase_finish",
    "BuilderFlag": "TF32 STRIP_PLAN VERSION_COMPATIBLE",
    "MemoryPoolType": "WORKSPACE",
    "HardwareCompatibilityLevel": "AMPERE_PLUS",
    "NetworkDefinitionCreationFlag": "STRONGLY_TYPED",
    "Runtime": "deserialize_cuda_engine engine_host_code_allowed",
    "Refitter": "set_named_weights refit_cuda_engine get_missing_weights",
    "OnnxParserRefitter": "refit_from_bytes",
    "ICudaEngine": "num_io_tensors get_tensor_name get_tensor_dtype get_tensor_shape get_tensor_mode "
    "create_execution_context",
    "IExecutionContext": "set_optimization_profile_async set_input_shape get_tensor_shape set_tensor_address "
    "execute_async_v3",
    "TensorIOMode": "INPUT",
    "ILogger": "Severity",
    "Weights": "",
}
REFITTED = {"BuilderFlag": "REFIT_INDIVIDUAL", "INetworkDefinition": "mark_weights_refittable"}
OF_RTX = {
    "IBuilderConfig": "num_compute_capabilities set_compute_capability",
    "ComputeCapability": "SM86 SM89 SM120",
    "ICudaEngine": "create_runtime_config",
    "IRuntimeConfig": "create_runtime_cache set_runtime_cache cuda_graph_strategy "
    "dynamic_shapes_kernel_specialization_strategy",
    "IRuntimeCache": "serialize deserialize",
    "CudaGraphStrategy": "WHOLE_GRAPH_CAPTURE DISABLED",
    "DynamicShapesKernelSpecializationStrategy": "NONE",
}


def missing_in(library, *used):
    """Names that ``library`` does not have."""
    names = [f"{kind}.{name}" for each in used for kind, names in each.items() for name in names.split() or [""]]
    return [name for name in names if not _has(library, *name.split("."))]


def _has(library, kind, name):
    return hasattr(library, kind) and (not name or hasattr(getattr(library, kind), name))


def test_tensorrt_for_rtx_has_every_name_that_is_used():
    assert missing_in(pytest.importorskip("tensorrt_rtx"), USED, REFITTED, OF_RTX) == []


def test_tensorrt_has_every_name_that_is_used():
    library = pytest.importorskip("tensorrt", exc_type=ImportError)
    major, minor = map(int, library.__version__.split(".")[:2])
    assert missing_in(library, USED, *([REFITTED] if (major, minor) >= (10, 2) else [])) == []


@pytest.mark.parametrize(("one", "extra"), [(TENSORRT, "tensorrt"), (RTX, "rtx")])
def test_a_missing_package_is_answered_by_the_line_that_installs_it(one, extra, monkeypatch):
    real = builtins.__import__
    monkeypatch.setattr(tensorrt_flavour, "import_module", lambda name: real("no_such_module_" + name))
    with pytest.raises(MissingExtraError) as caught:
        load_library(one, f"--target {one.target}")
    assert install_line(extra) in str(caught.value) and f"--target {one.target}" in str(caught.value)


def test_a_package_without_its_shared_libraries_is_installed_but_does_not_start(monkeypatch):
    """What the bindings of TensorRT 11.4 raise where pypi.nvidia.com could not be reached."""

    def fails(name):
        raise ImportError("libnvonnxparser.so.11: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(tensorrt_flavour, "import_module", fails)
    with pytest.raises(BackendError, match=r"installed but does not start: libnvonnxparser\.so\.11") as caught:
        load_library(TENSORRT, "--target tensorrt")
    assert not isinstance(caught.value, MissingExtraError) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("version", "fits"), [("8.6.1", False), ("10.0.1", True), ("11.4.1", True)])
def test_the_oldest_tensorrt(version, fits, monkeypatch):
    library = types.SimpleNamespace(__version__=version)
    monkeypatch.setattr(tensorrt_flavour, "import_module", lambda name: library)
    if fits:
        assert load_library(TENSORRT, "--target tensorrt") is library
    else:
        with pytest.raises(BackendError, match=r"--target tensorrt needs TensorRT 10 or 11; found 8\.6\.1"):
            load_library(TENSORRT, "--target tensorrt")


def test_what_a_library_cannot_make_is_an_error_in_one_line():
    """With a driver that is missing or too old, its makers raise a TypeError that says nothing."""
    library = TensorRTDouble(CudaDouble())

    def Builder(log):  # noqa: N802 (the library's name)
        log.log(library.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35.\nCheck the driver")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    expected = r"making a Builder: tensorrt 10\.9\.0 refuses it: CUDA initialization failure with error: 35\. Check"
    with pytest.raises(BackendError, match=expected) as caught:
        created(library, Builder, tensorrt_flavour.error_log(library))
    assert str(caught.value).endswith("look at nvidia-smi for the GPU and its driver") and "\n" not in str(caught.value)


def test_every_target_has_a_provider_that_runs_its_plans():
    assert sorted(one.target for one in PROVIDERS.values() if isinstance(one, PlanProvider)) == sorted(FLAVOURS)
