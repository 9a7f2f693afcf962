"""What each library refuses to build."""

import types

import pytest

from propetl.errors import BackendError, ConfigurationError
from propetl.export.tensorrt_engines import flavour
from propetl.export.tensorrt_engines.flavour import check_supported
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.runtime.engines.tensorrt_flavour import FLAVOURS

TENSORRT, RTX = FLAVOURS["tensorrt"], FLAVOURS["tensorrt-rtx"]
CAPABILITIES = types.SimpleNamespace(__members__=dict.fromkeys(["NONE", "CURRENT", "SM75", "SM86", "SM89", "SM120"]))
LIBRARY = types.SimpleNamespace(__version__="1.7.1", ComputeCapability=CAPABILITIES)


def options(target="tensorrt-rtx", **chosen):
    return TensorRTOptions((target,), **chosen)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(flavour, "gpu_here", lambda: None)


@pytest.fixture
def orin(monkeypatch):
    monkeypatch.setattr(flavour, "gpu_here", lambda: 87)


@pytest.mark.usefixtures("no_gpu")
class TestWithoutAGpu:
    def test_rtx_builds_for_the_gpus_that_are_named(self):
        assert check_supported(RTX, LIBRARY, options(compute_capabilities=(86, 120))) == (86, 120)

    def test_rtx_wants_to_know_which(self):
        with pytest.raises(ConfigurationError, match="by --sm, among 75, 86, 89, 120"):
            check_supported(RTX, LIBRARY, options())

    @pytest.mark.parametrize("asked", [(90,), (86, 90), (72,)])
    def test_a_gpu_that_rtx_does_not_know(self, asked):
        with pytest.raises(ConfigurationError, match=rf"does not support SM {asked[-1]} \(it knows 75, 86, 89, 120\)"):
            check_supported(RTX, LIBRARY, options(compute_capabilities=asked))

    def test_tensorrt_wants_a_gpu(self):
        with pytest.raises(BackendError, match=r"there is none here: .*--target tensorrt-rtx"):
            check_supported(TENSORRT, LIBRARY, options("tensorrt"))

    @pytest.mark.parametrize("key", ["strip_weights", "refit"])
    def test_stripped_and_refittable_plans_want_a_driver(self, key):
        flag = "--" + key.replace("_", "-")
        with pytest.raises(BackendError, match=f"{flag} needs a GPU driver"):
            check_supported(RTX, LIBRARY, options(compute_capabilities=(86,), **{key: True}))


@pytest.mark.usefixtures("orin")
class TestWithAGpu:
    def test_tensorrt_builds_for_it(self):
        assert check_supported(TENSORRT, LIBRARY, options("tensorrt")) == (87,)
        assert check_supported(TENSORRT, LIBRARY, options("tensorrt", compute_capabilities=(87,))) == (87,)

    def test_tensorrt_builds_for_no_other(self):
        with pytest.raises(ConfigurationError, match=r"\(SM 87\) only; got --sm 86"):
            check_supported(TENSORRT, LIBRARY, options("tensorrt", compute_capabilities=(86,)))

    def test_rtx_takes_it_if_none_is_named(self, monkeypatch):
        monkeypatch.setattr(flavour, "gpu_here", lambda: 89)
        assert check_supported(RTX, LIBRARY, options()) == (89,)

    def test_rtx_says_if_it_does_not_know_it(self):
        with pytest.raises(ConfigurationError, match="does not support SM 87"):
            check_supported(RTX, LIBRARY, options())

    @pytest.mark.parametrize("key", ["timing_cache", "hardware_compatible", "version_compatible"])
    def test_modes_that_tensorrt_alone_has(self, key, tmp_path):
        value = tmp_path / "cache" if key == "timing_cache" else True
        assert check_supported(TENSORRT, LIBRARY, options("tensorrt", **{key: value})) == (87,)
        with pytest.raises(ConfigurationError, match=f"--{key.replace('_', '-')} is for --target tensorrt"):
            check_supported(RTX, LIBRARY, options(compute_capabilities=(86,), **{key: value}))

    def test_some_weights_to_refit_came_with_a_later_tensorrt(self):
        older = types.SimpleNamespace(__version__="10.0.1", BuilderFlag=types.SimpleNamespace(REFIT=1))
        with pytest.raises(BackendError, match=r"--refit needs TensorRT 10\.2 or later; found 10\.0\.1"):
            check_supported(TENSORRT, older, options("tensorrt", refit=True))
