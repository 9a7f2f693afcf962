import dataclasses
import json

import pytest
from click.testing import CliRunner

from propetl.bundle import write_bundle
from propetl.bundle.text import TextInfo
from propetl.cli.main import main
from propetl.prototypes.spec import PrototypeConfig
from tests.tiny_bundle import BACKBONE, random_contents


@pytest.fixture
def bundle(tmp_path):
    write_bundle(tmp_path / "bundle", random_contents(PrototypeConfig(bottleneck=3)))
    return tmp_path / "bundle"


def inspect(path, *arguments):
    return CliRunner().invoke(main, ["inspect", str(path), *map(str, arguments)])


def test_shows_tasks_sizes_and_overlap(bundle):
    result = inspect(bundle)
    assert result.exit_code == 0, result.stderr
    for part in (
        "first",
        "second",
        "accuracy 0.7500",
        "2 classes",
        "prototype, once",
        "of full fine-tuning",
        "layer 1",
    ):
        assert part in result.stdout, part
    for title in ("Tasks", "Storage in bits", "Weights kept", "Overlap between slots", "Overlap between tasks"):
        assert title in result.stdout, title


@pytest.mark.parametrize(
    ("config", "sharing"),
    [
        (PrototypeConfig(bottleneck=3, scope="stack"), "adapter, masked, encoder and decoder one each, head"),
        (
            PrototypeConfig(bottleneck=3, scope="stack", masks="only-layers"),
            "masks only-layers, encoder and decoder one",
        ),
        (PrototypeConfig(bottleneck=3, sharing="tasks"), "adapter, layers unshared, one for all tasks, head"),
    ],
)
def test_what_encoder_and_decoder_share(tmp_path, config, sharing):
    """Overlap is of slots of one prototype: no value is shown that is none."""
    backbone = dataclasses.replace(BACKBONE, family="t5", decoder_layers=1)
    write_bundle(tmp_path / "bundle", random_contents(config, backbone))
    result = inspect(tmp_path / "bundle")
    assert result.exit_code == 0, result.stderr
    assert sharing in result.stdout and "nan" not in result.stdout
    assert ("Overlap between slots" in result.stdout) == config.masked


def test_hybrid_masks_are_shown_with_what_is_shared_once(tmp_path):
    config = PrototypeConfig(bottleneck=3, masks="hybrid", combine="and", languages=("de", "en"))
    write_bundle(tmp_path / "bundle", random_contents(config))
    result = inspect(tmp_path / "bundle")
    assert result.exit_code == 0, result.stderr
    for part in (
        "adapter, masks hybrid (and) of de, en, head linear",
        "layer masks, once",
        "language de, once",
        "Overlap between slots",
        "Overlap between tasks",
        "Overlap between languages",
    ):
        assert part in result.stdout, part
    (shared,) = [line for line in result.stdout.splitlines() if "layer masks, once" in line]
    assert " 144 " in shared  # two layers' masks over 72 weights
    (overlap,) = [line for line in result.stdout.splitlines() if "layer masks " in line and "once" not in line]
    assert "0." in overlap


def test_tasks_that_are_answered_in_text(tmp_path):
    backbone = dataclasses.replace(BACKBONE, family="t5", decoder_layers=3)
    tasks = {"classes": TextInfo("{}", ("no", "yes")), "value": TextInfo("{}", step=0.2), "text": TextInfo("{}")}
    write_bundle(tmp_path / "bundle", random_contents(PrototypeConfig(bottleneck=3), backbone, tasks))
    result = inspect(tmp_path / "bundle")
    assert result.exit_code == 0, result.stderr
    shown = " ".join(result.stdout.replace("│", " ").split())
    for part in ("2 + 3 layers", "2 classes, as", "regression, as", "text text rouge1", "decoder 2"):
        assert part in shown, part


@pytest.mark.parametrize("config", [PrototypeConfig(method="head"), PrototypeConfig(bottleneck=3, sharing="unshared")])
def test_without_masks_there_is_no_overlap(tmp_path, config):
    write_bundle(tmp_path / "bundle", random_contents(config, tasks={"degree": 0}))
    result = inspect(tmp_path / "bundle")
    assert result.exit_code == 0, result.stderr
    assert "regression" in result.stdout
    assert "verlap" not in result.stdout


def test_json_is_nothing_but_json(bundle):
    result = inspect(bundle, "--json", "-")
    assert json.loads(result.stdout)["tasks"]["second"]["storage"]["mask_bits"] == 144


def test_plot(bundle, tmp_path):
    result = inspect(bundle, "--plot", tmp_path / "overlap.png")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "overlap.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [(["--plot", "overlap.txt"], "use one of .png"), (["--plot", "/nowhere/o.png"], "/nowhere")],
)
def test_a_plot_that_cannot_be_written(bundle, arguments, part):
    result = inspect(bundle, *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("propetl: error: ")
    assert part in result.stderr


def test_a_damaged_bundle_is_one_line(bundle):
    content = bytearray((bundle / "prototype.safetensors").read_bytes())
    content[-1] ^= 1
    (bundle / "prototype.safetensors").write_bytes(content)
    result = inspect(bundle)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "prototype.safetensors: its SHA-256" in result.stderr


def test_no_bundle_there(tmp_path):
    result = inspect(tmp_path / "none")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no bundle is there" in result.stderr
