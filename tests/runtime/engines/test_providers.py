from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.engines.ort_options import size_ranges
from propetl.runtime.engines.providers import PROVIDERS, ort_provider

CACHE = Path("cache")


@pytest.fixture
def manifest(tiny):
    return read_artifact(tiny.path).manifest


def options_of(manifest, options, form="switchable", name=None):
    graph = manifest.forms[form].graph
    return ort_provider(name or options.provider).options(options, graph, manifest, CACHE)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_module_of_every_provider_runs_it(provider):
    module = import_module(PROVIDERS[provider].module)
    assert callable(module.load) and callable(module.can_stage)


def test_the_cpu_takes_no_options(manifest):
    assert options_of(manifest, EngineOptions()) == {}


def test_fp32_is_fp32_on_cuda(manifest):
    assert options_of(manifest, EngineOptions("cuda", device=1)) == {"device_id": "1", "use_tf32": "0"}
    coarser = replace(manifest, precision="tf32")
    assert options_of(coarser, EngineOptions("cuda"))["use_tf32"] == "1"


def test_small_memory_on_cuda(manifest):
    assert options_of(manifest, EngineOptions("cuda", memory="small"))["arena_extend_strategy"] == "kSameAsRequested"


def test_tensorrt_keeps_engines_and_is_told_all_shapes(manifest):
    found = options_of(manifest, EngineOptions("tensorrt", device=2, batch_size=16))
    assert found["device_id"] == "2"
    assert found["trt_engine_cache_enable"] == found["trt_timing_cache_enable"] == "1"
    assert found["trt_engine_cache_path"] == found["trt_timing_cache_path"] == "cache"
    tokens = ("input_ids", "attention_mask", "token_type_ids")
    head = {"min": "head.bias:1,head.weight:1x10", "opt": "head.bias:3,head.weight:3x10"}
    head["max"] = "head.bias:64,head.weight:64x10"
    for kind, shape in {"min": "1x1", "opt": "8x32", "max": "16x32"}.items():
        rows = ",".join(f"{name}:{shape}" for name in tokens)
        assert found[f"trt_profile_{kind}_shapes"] == f"{rows},{head[kind]}"
    assert not {"trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"} & set(found)


def test_masks_have_one_shape_and_are_left_out_of_the_ranges(manifest):
    assert "mask." not in options_of(manifest, EngineOptions("tensorrt"))["trt_profile_max_shapes"]
    bank = options_of(manifest, EngineOptions("tensorrt", batch_size=4), form="bank")
    assert bank["trt_profile_max_shapes"].endswith("token_type_ids:4x32,task_id:4")


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_tensorrt_may_use_the_types_that_the_graph_holds(manifest, precision):
    found = options_of(replace(manifest, precision=precision), EngineOptions("tensorrt"))
    assert found[f"trt_{precision}_enable"] == "1"


def test_rtx_has_names_of_its_own(manifest):
    found = options_of(manifest, EngineOptions("nv-tensorrt-rtx"))
    assert found["nv_runtime_cache_path"] == "cache"
    assert {name for name in found if name.startswith("nv_profile")} == {
        f"nv_profile_{kind}_shapes" for kind in ("min", "opt", "max")
    }
    assert not [name for name in found if name.startswith("trt_")]


def test_the_helper_of_tensorrt_gets_options_of_cuda(manifest):
    found = options_of(manifest, EngineOptions("tensorrt", device=3), name="cuda")
    assert found == {"device_id": "3", "use_tf32": "0"}


def test_ranges_rise_and_hold_every_task(manifest):
    for batch_size in (1, 3, 8, 100):
        ranges = size_ranges(manifest, batch_size)
        assert all(1 == least <= usual <= most for least, usual, most in ranges.values())
        assert ranges["batch"][2] == batch_size
        assert ranges["sequence"][2] == manifest.max_length
        assert ranges["labels"][2] >= max(task.info.outputs for task in manifest.tasks.values())
