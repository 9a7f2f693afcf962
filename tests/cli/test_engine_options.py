"""Options for engines, from words to one object."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from propetl.cli.engine_options import engine_options
from propetl.errors import ConfigurationError
from propetl.export.tensorrt_engines.options import TensorRTOptions, parse_shapes


def parsed(*arguments: str) -> TensorRTOptions | None:
    found = []

    @click.command()
    @engine_options
    def command(engines: TensorRTOptions | None) -> None:
        found.append(engines)

    done = CliRunner().invoke(command, arguments)
    if done.exception is not None:
        raise done.exception
    return found[0]


def test_no_target_no_engines() -> None:
    assert parsed() is None


def test_a_target_alone_is_fp32_for_the_gpu_here() -> None:
    assert parsed("--target", "tensorrt") == TensorRTOptions(("tensorrt",))


def test_everything() -> None:
    words = "--target tensorrt-rtx --target tensorrt --precision fp16 --precision int8 --calibration glue"
    words += " --profile 1x1/1x64/1x128 --profile 8x64 --sm 86,120 --workspace 512 --optimization-level 5"
    words += " --timing-cache times.bin --hardware-compatible --version-compatible --refit --max-new-tokens 40"
    assert parsed(*words.split()) == TensorRTOptions(
        targets=("tensorrt-rtx", "tensorrt"),
        precisions=("fp16", "int8"),
        shapes=(parse_shapes("1x1/1x64/1x128"), parse_shapes("8x64")),
        compute_capabilities=(86, 120),
        calibration="glue",
        workspace_mib=512,
        optimization_level=5,
        timing_cache=Path("times.bin"),
        hardware_compatible=True,
        version_compatible=True,
        refit=True,
        max_new_tokens=40,
    )


@pytest.mark.parametrize(
    "words",
    [
        "--precision fp16",
        "--profile 1x1",
        "--sm 86",
        "--calibration glue",
        "--workspace 5",
        "--timing-cache x",
        "--hardware-compatible",
        "--version-compatible",
        "--strip-weights",
        "--refit",
        "--max-new-tokens 9",
    ],
)
def test_options_of_engines_want_a_target(words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{words.split()[0]} is for engines: say which by --target tensorrt"):
        parsed(*words.split())


@pytest.mark.parametrize("words", ["--sm ampere", "--profile 8", "--workspace 0", "--optimization-level 9"])
def test_words_that_cannot_be_read(words: str) -> None:
    with pytest.raises(ConfigurationError, match=words.split()[0]):
        parsed("--target", "tensorrt-rtx", *words.split())
