"""Who may run which graphs."""

import pytest

from propetl.errors import ArtifactError, ConfigurationError
from propetl.runtime.engines.providers import PROVIDERS, check_runs
from propetl.runtime.operators import ONNXRUNTIME, OPERATOR_SETS, STANDARD, check_operators
from propetl.runtime.session import Session


@pytest.mark.parametrize("provider", PROVIDERS)
def test_any_provider_may_run_standard_graphs(provider):
    check_runs(provider, STANDARD, "fp32", "somewhere")


def test_operators_of_providers_are_known():
    assert set().union(*(one.operators for one in PROVIDERS.values())) == set(OPERATOR_SETS)


def test_own_operators_are_for_onnxruntime():
    check_runs("cpu", ONNXRUNTIME, "fp32", "somewhere")
    with pytest.raises(ConfigurationError, match=r"somewhere uses operators of .* 'tensorrt' cannot run .*standard"):
        check_runs("tensorrt", ONNXRUNTIME, "fp32", "somewhere")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_bf16_is_for_gpus(provider):
    check_runs(provider, STANDARD, "fp16", "somewhere")
    if provider != "cpu":
        check_runs(provider, STANDARD, "bf16", "somewhere")
        return
    with pytest.raises(ConfigurationError, match=r"somewhere computes in bf16, which provider 'cpu' cannot; .*cuda"):
        check_runs(provider, STANDARD, "bf16", "somewhere")


def test_unknown_operators_are_refused():
    with pytest.raises(ArtifactError, match=r"operators 'tpu' are unknown .known: standard, onnxruntime.*upgrade"):
        check_operators("tpu")


def test_a_session_asks(own_tiny):
    own_tiny.edit_manifest(lambda value: value.update(operators="onnxruntime"))
    Session.open(own_tiny.path, provider="cpu").close()
    with pytest.raises(ConfigurationError, match="--operators standard"):
        Session.open(own_tiny.path, provider="tensorrt")


def test_a_manifest_with_unknown_operators_is_refused(own_tiny):
    own_tiny.edit_manifest(lambda value: value.update(operators="tpu"))
    with pytest.raises(ArtifactError, match="'tpu' are unknown"):
        Session.open(own_tiny.path)
