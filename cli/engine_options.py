"""Options of ``propetl export`` and ``propetl build`` that concern engines of TensorRT."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from propetl.errors import ConfigurationError
from propetl.export.tensorrt_engines.options import (
    DEFAULT_OPTIMIZATION_LEVEL,
    TensorRTOptions,
    parse_compute_capabilities,
    parse_shapes,
)
from propetl.runtime.engine_records import ENGINE_PRECISIONS, ENGINE_TARGETS

_OPTIONS = (
    click.option(
        "--target",
        "targets",
        multiple=True,
        type=click.Choice(ENGINE_TARGETS),
        help="Build engines: for the GPU here (tensorrt), or for any RTX GPU (tensorrt-rtx). May be repeated.",
    ),
    click.option(
        "--precision",
        "precisions",
        multiple=True,
        type=click.Choice(ENGINE_PRECISIONS),
        help="Of engines; may be repeated.  [default: fp32]",
    ),
    click.option(
        "--profile",
        "profiles",
        multiple=True,
        metavar="MIN/OPT/MAX",
        help="Shapes of engines, each BATCHxSEQUENCE: 1x1/8x64/32x128. May be repeated.  [default: up to 32 rows]",
    ),
    click.option("--sm", metavar="LIST", help="GPUs to build for (tensorrt-rtx): 86,89,120.  [default: the GPU here]"),
    click.option("--calibration", metavar="DATA", help="Training rows for int8.  [default: the few golden rows]"),
    click.option("--workspace", type=int, metavar="MIB", help="Scratch memory that an engine may use.  [default: all]"),
    click.option(
        "--optimization-level",
        type=int,
        default=DEFAULT_OPTIMIZATION_LEVEL,
        show_default=True,
        help="How long the builder may look for faster kernels, 0 to 5.",
    ),
    click.option(
        "--timing-cache",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File that keeps kernel timings between builds (tensorrt).",
    ),
    click.option("--hardware-compatible", is_flag=True, help="Engines that later GPUs run, too (tensorrt)."),
    click.option("--version-compatible", is_flag=True, help="Engines that later TensorRTs load, too (tensorrt)."),
    click.option("--strip-weights", is_flag=True, help="Engines without weights, which are put in on the device."),
    click.option("--refit", is_flag=True, help="One folded engine for all tasks, and a file of weights for each."),
    click.option(
        "--max-new-tokens",
        type=int,
        help="Longest answer that engines which generate have room for.  [default: the tasks' longest]",
    ),
)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options, and hands the command one argument ``engines``: :class:`TensorRTOptions`, or None."""

    @wraps(command)
    def with_engines(
        targets: tuple[str, ...],
        precisions: tuple[str, ...],
        profiles: tuple[str, ...],
        sm: str | None,
        calibration: str | None,
        workspace: int | None,
        optimization_level: int,
        timing_cache: Path | None,
        hardware_compatible: bool,
        version_compatible: bool,
        strip_weights: bool,
        refit: bool,
        max_new_tokens: int | None,
        **others: Any,
    ) -> Any:
        chosen = {
            "--precision": bool(precisions),
            "--profile": bool(profiles),
            "--sm": sm is not None,
            "--calibration": calibration is not None,
            "--workspace": workspace is not None,
            "--timing-cache": timing_cache is not None,
            "--hardware-compatible": hardware_compatible,
            "--version-compatible": version_compatible,
            "--strip-weights": strip_weights,
            "--refit": refit,
            "--max-new-tokens": max_new_tokens is not None,
        }
        if not targets:
            if given := [flag for flag, is_given in chosen.items() if is_given]:
                raise ConfigurationError(
                    f"{given[0]} is for engines: say which by --target {' or '.join(ENGINE_TARGETS)}"
                )
            return command(engines=None, **others)
        engines = TensorRTOptions(
            targets,
            precisions or ("fp32",),
            tuple(map(parse_shapes, profiles)),
            parse_compute_capabilities(sm) if sm is not None else (),
            calibration,
            workspace,
            optimization_level,
            timing_cache,
            hardware_compatible,
            version_compatible,
            strip_weights,
            refit,
            max_new_tokens,
        )
        return command(engines=engines, **others)

    for option in reversed(_OPTIONS):
        with_engines = option(with_engines)
    return with_engines
