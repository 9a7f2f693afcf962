from dataclasses import replace

import pytest

from propetl.errors import BackendError
from propetl.runtime.engine_records import EngineInfo, GraphName, Profile
from propetl.runtime.engines.plan_choice import Place, choose_engine

HERE = Place("tensorrt-rtx", "1.7.1", 89)
PROFILES = (Profile({"batch": (1, 8, 32), "sequence": (1, 128, 512)}),)
BANK = EngineInfo("e/bank.plan", "bank", None, "model", "tensorrt-rtx", "1.7.1", (86, 89), "fp16", PROFILES)
FOLDED = replace(BANK, path="e/rte.plan", form="folded", task="rte")
TENSORRT = replace(BANK, path="e/trt.plan", target="tensorrt", version="10.9.0", compute_capabilities=(89,))


def choose(engines, form="bank", task=None, part="model", precision=None, place=HERE):
    return choose_engine(engines, GraphName(form, task, part), precision, place)


def test_the_first_that_fits():
    other = replace(BANK, path="e/int8.plan", precision="int8")
    assert choose([TENSORRT, FOLDED, BANK, other]) is BANK
    assert choose([TENSORRT, FOLDED, BANK, other], precision="int8") is other
    assert choose([BANK, FOLDED], "folded", "rte") is FOLDED
    encoder, decoder = (replace(FOLDED, path=part, part=part) for part in ("encoder", "decoder"))
    assert choose([encoder, decoder], "folded", "rte", "decoder") is decoder


def test_a_plan_that_is_refitted_serves_the_tasks_that_it_has_weights_for():
    shared = replace(FOLDED, task=None, refits={"rte": "e/rte.weights", "cola": "e/cola.weights"})
    assert choose([shared], "folded", "cola") is shared
    with pytest.raises(BackendError, match="no engine for graph folded/sst2"):
        choose([shared], "folded", "sst2")


@pytest.mark.parametrize(
    ("engines", "asked", "message"),
    [
        ([], {}, "the artifact has no engine for graph bank of target tensorrt-rtx; it has none: propetl build adds"),
        ([TENSORRT], {}, r"no engine for graph bank of target tensorrt-rtx; it has bank fp16 \(tensorrt\)"),
        ([FOLDED], {}, r"it has folded/rte fp16 \(tensorrt-rtx\)"),
        ([BANK], {"precision": "int8"}, r"no engine at int8 for graph bank; it has bank fp16"),
        (
            [BANK],
            {"place": replace(HERE, version="1.8.0")},
            r"were built by tensorrt-rtx 1\.7\.1, here is 1\.8\.0, and plans load in the version that built them",
        ),
        (
            [BANK],
            {"place": replace(HERE, compute_capability=120)},
            "the GPU here is SM 120: propetl build them again with --sm 120, or choose provider 'cuda'",
        ),
    ],
)
def test_what_does_not_fit_says_what_is_there_and_what_to_do(engines, asked, message):
    with pytest.raises(BackendError, match=message) as caught:
        choose(engines, **asked)
    assert "\n" not in str(caught.value)


class TestCompatibleModes:
    """TensorRT's plans may be built for later versions and later GPUs."""

    HERE = Place("tensorrt", "10.9.0", 89)

    def fits(self, place, **changes):
        try:
            choose([replace(TENSORRT, **changes)], place=place)
        except BackendError:
            return False
        return True

    @pytest.mark.parametrize(
        ("version", "fits"), [("10.9.0", True), ("10.10.1", True), ("10.8.0", False), ("11.0.0", False)]
    )
    def test_versions(self, version, fits):
        place = replace(self.HERE, version=version)
        assert self.fits(place, version_compatible=True) == fits
        assert self.fits(place) == (version == "10.9.0")

    @pytest.mark.parametrize(("capability", "fits"), [(86, False), (89, True), (90, True), (120, True)])
    def test_gpus(self, capability, fits):
        place = replace(self.HERE, compute_capability=capability)
        assert self.fits(place, hardware_compatible=True) == fits
        assert self.fits(place) == (capability == 89)

    def test_hardware_compatible_begins_with_ampere(self):
        place = replace(self.HERE, compute_capability=75)
        assert not self.fits(place, hardware_compatible=True, compute_capabilities=(72,))
