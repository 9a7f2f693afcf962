"""``propetl export``: compiles a bundle to an artifact."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from propetl.cli.build_output import build_steps, engines_table, profiles_line, progress_bars
from propetl.cli.engine_options import engine_options
from propetl.cli.pickle_option import pickle_option
from propetl.export.options import (
    DEFAULT_MAX_BATCH,
    DEFAULT_MAX_DROP,
    DEFAULT_OPSET,
    FP32,
    OTHER_TOOLS,
    QUANTISATIONS,
    TRITON,
    WEB,
    ExportOptions,
)
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.families import family_of
from propetl.runtime.losses import Loss
from propetl.runtime.manifest import BACKBONE_FILE, Manifest
from propetl.runtime.operators import OPERATOR_SETS, STANDARD
from propetl.runtime.signatures import BANK, BARE, FOLDED, FORM_RULES, SWITCHABLE

ALL = "all"
_FORMS_OF_ALL = (FOLDED, SWITCHABLE, BANK)

# Steps besides traces and graphs: load, companions, check.
_OTHER_STEPS = 3


@click.command("export", short_help="Compile a bundle to ONNX graphs and engines.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--form",
    "forms",
    multiple=True,
    type=click.Choice([*FORM_RULES, *OTHER_TOOLS, ALL]),
    help="folded (one graph a task; default), switchable (masks are inputs), bank (task_id is an input), "
    "bare (backbone alone, for bench); all = the first three. May be repeated. Or, by itself, for other tools: "
    "peft (LoRA for PeftModel.from_pretrained), onnx-adapter (files for onnxruntime.LoraAdapter).",
)
@click.option("--task", "tasks", multiple=True, help="Only this task; may be repeated.  [default: all]")
@click.option("--opset", type=int, default=DEFAULT_OPSET, show_default=True, help="ONNX operator set, 18 to 20.")
@click.option(
    "--operators",
    type=click.Choice(list(OPERATOR_SETS)),
    default=STANDARD,
    show_default=True,
    help="ONNX's own, for any engine, or also those of ONNX Runtime: attention as one operator.",
)
@click.option(
    "--quantize",
    type=click.Choice(QUANTISATIONS),
    default=FP32,
    show_default=True,
    help="Weights and arithmetic of half the bits for GPUs: fp16, bf16. Weights as integers: int8 (a quarter of the "
    "size, faster), int8-static (the same with activations' ranges from training rows of --data), int4 (smaller, needs "
    "--operators onnxruntime).",
)
@click.option(
    "--data", help="Rows on which to measure what --quantize costs each task, and ranges.  [default: the golden rows]"
)
@click.option(
    "--max-drop",
    type=float,
    default=DEFAULT_MAX_DROP,
    show_default=True,
    help="Points of a task's metric that --quantize may cost on --data.",
)
@click.option(
    "--tune",
    type=click.Choice(["cpu"]),
    help="Also leave graphs optimised and packed for the CPU of this machine; or, on the device, propetl tune.",
)
@click.option("--merge-weights", is_flag=True, help="Fold what can be into the backbone's matrices: larger, faster.")
@click.option(
    "--merge-decoders",
    is_flag=True,
    help="Also leave decoder_model_merged.onnx in each folded folder of an encoder-decoder, for other tools.",
)
@click.option("--standalone", is_flag=True, help="Copy shared weights into each folded folder instead of linking.")
@click.option(
    "--layout",
    type=click.Choice([TRITON, WEB]),
    help="triton: add a model repository for NVIDIA's Triton Inference Server, OUTPUT/triton; forms bank and folded. "
    "web: add a page that runs the artifact in a browser, OUTPUT/web.",
)
@click.option(
    "--max-batch", type=int, default=DEFAULT_MAX_BATCH, show_default=True, help="Rows in a batch of Triton's."
)
@click.option("--backbone", help="Load the backbone from here instead of from where the bundle says.")
@pickle_option
@engine_options
@click.option("--polygraphy", is_flag=True, help="Leave recorded inputs and outputs for `polygraphy run`.")
@click.option("--overwrite", is_flag=True, help="Replace the artifact that is there.")
@click.option(
    "--traces",
    metavar="FOLDER",
    help="Keep traced graphs here: further exports of this backbone and method take a fraction of the time.  "
    "[default: $PROPETL_TRACES]",
)
@click.option("-v", "--verbose", is_flag=True, help="Print what each pass did.")
def command(
    bundle: Path,
    output: Path,
    forms: tuple[str, ...],
    tasks: tuple[str, ...],
    opset: int,
    operators: str,
    quantize: str,
    data: str | None,
    max_drop: float,
    tune: str | None,
    merge_weights: bool,
    merge_decoders: bool,
    standalone: bool,
    layout: str | None,
    max_batch: int,
    backbone: str | None,
    allow_pickle: bool | None,
    engines: TensorRTOptions | None,
    polygraphy: bool,
    overwrite: bool,
    traces: str | None,
    verbose: bool,
) -> None:
    """Compile BUNDLE to an artifact that runs without PyTorch.

    \b
    Examples:
      propetl export runs/glue/bundle -o artifact
      propetl export runs/glue/bundle -o artifact --form all --form bare
      propetl export runs/glue/bundle -o rte-only --task rte --standalone
      propetl export runs/lora/bundle -o adapters --form peft
      propetl export runs/glue/bundle -o fast --operators onnxruntime
      propetl export runs/glue/bundle -o small --quantize int8 --data data/glue
      propetl export runs/glue/bundle -o rtx --target tensorrt-rtx --sm 86,89,120 --precision fp16
      propetl export runs/glue/bundle -o served --form bank --layout triton
      propetl export runs/glue/bundle -o site --form switchable --layout web
    """  # noqa: D301 (click looks for the control character)
    options = ExportOptions(
        forms=_chosen(forms),
        tasks=tasks,
        opset=opset,
        operators=operators,
        quantize=quantize,
        data=data,
        max_drop=max_drop,
        tune=tune is not None,
        merge_weights=merge_weights,
        merge_decoders=merge_decoders,
        standalone=standalone,
        backbone=backbone,
        allow_pickle=bool(allow_pickle),
        overwrite=overwrite,
        traces=traces,
        engines=engines,
        polygraphy=polygraphy,
        triton=layout == TRITON,
        max_batch=max_batch,
        web=layout == WEB,
    )
    if set(options.forms) & set(OTHER_TOOLS):
        _export_for_other_tools(bundle, output, options)
        return
    console = Console()
    manifest = _export(bundle, output, options, verbose, console)
    console.print(_summary(manifest))
    if manifest.engines:
        console.print(engines_table(manifest))
        console.print(profiles_line(manifest.engines), soft_wrap=True, highlight=False)
    if (half := manifest.float16) is not None:
        line = f"float16: {half.exact} of {half.products} products stay float32; measured on {half.rows} rows"
        console.print(f"{line} with a margin of {half.margin:g}", soft_wrap=True, highlight=False)
    if manifest.losses:
        console.print(_losses(manifest.precision, manifest.losses))
    if manifest.prototype.specification.mergeable and FOLDED in manifest.forms:
        console.print(_merge_sizes(manifest, merge_weights), soft_wrap=True)
    console.print(f"written to {output}", soft_wrap=True)
    if options.triton:
        console.print(f"serve it: tritonserver --model-repository={output / 'triton'}", soft_wrap=True)
    if options.web:
        console.print(f"once: npm install --ignore-scripts --prefix {output / 'web'}", soft_wrap=True)
        console.print(f"serve it: python3 -m http.server --directory {output}, and open /web/ there", soft_wrap=True)


def _chosen(forms: tuple[str, ...]) -> tuple[str, ...]:
    expanded = [form for choice in forms for form in (_FORMS_OF_ALL if choice == ALL else (choice,))]
    return tuple(dict.fromkeys(expanded)) or (FOLDED,)


def _export(bundle: Path, output: Path, options: ExportOptions, verbose: bool, console: Console) -> Manifest:
    from propetl.bundle.reader import read_info
    from propetl.export.quantisation_loss import LossTooLarge
    from propetl.export.writer import export_bundle

    info = read_info(bundle)
    tasks = len(options.tasks) or len(info.tasks)
    parts = 3 if info.backbone.decoder_layers else 1
    try:
        with progress_bars("export", "exported", _steps(options, tasks, parts), verbose) as (report, report_build):
            return export_bundle(bundle, output, options, report, report_build)
    except LossTooLarge as error:
        console.print(_losses(options.quantize, error.losses))  # what was measured is worth more than the refusal
        raise


def _export_for_other_tools(bundle: Path, output: Path, options: ExportOptions) -> None:
    from propetl.export.other_tools.writer import export_for_other_tools

    with Console(stderr=True).status("export") as status:
        written = export_for_other_tools(bundle, output, options, status.update)
    table = Table(title=f"{written.form}: {len(written.tasks)} tasks")
    table.add_column("task")
    table.add_column("bytes", justify="right")
    for task, path in written.tasks.items():
        table.add_row(task, f"{_bytes_below(path, written.files):,}")
    console = Console()
    console.print(table)
    console.print(f"written to {output}", soft_wrap=True)


def _bytes_below(path: str, files: dict[str, dict[str, Any]]) -> int:
    """Of a file, or of all files in a folder."""
    return sum(record["bytes"] for name, record in files.items() if name == path or name.startswith(f"{path}/"))


def _steps(options: ExportOptions, tasks: int, parts: int) -> int:
    """Traces, graphs, engines and the rest; switchable and bank share one trace, and the two graphs of their stages.

    A backbone that generates has graphs of several ``parts``, which share one stage that applies masks.
    """
    traces = len({BANK if form == SWITCHABLE else form for form in options.forms})
    graphs = sum(tasks if form == FOLDED else 1 for form in options.forms)
    staged = bool({BANK, SWITCHABLE} & set(options.forms))
    compiled = parts * (graphs + staged) + staged
    return parts * traces + compiled + build_steps(options.engines, compiled) + _OTHER_STEPS


def _summary(manifest: Manifest) -> Table:
    own = "" if manifest.operators == STANDARD else f", operators of {manifest.operators}"
    table = Table(title=f"Artifact: {len(manifest.tasks)} tasks, {manifest.precision}, opset {manifest.opset}{own}")
    for title in ("form", "graphs", "own bytes"):
        table.add_column(title, justify="left" if title == "form" else "right")
    for form, info in manifest.forms.items():
        graphs = info.paths()
        own = sum(manifest.files[path]["bytes"] for path in graphs)
        table.add_row("bare backbone" if form == BARE else form, str(len(graphs)), f"{own:,}")
    table.add_section()
    table.add_row("weights that all graphs share", "", f"{manifest.files[BACKBONE_FILE]['bytes']:,}")
    packs = sum(manifest.files[task.pack]["bytes"] for task in manifest.tasks.values())
    table.add_row("task packs", str(len(manifest.tasks)), f"{packs:,}")
    return table


def _losses(precision: str, losses: Sequence[Loss]) -> Table:
    """What quantising cost, beside PyTorch in float32."""
    table = Table(title=f"{precision} beside PyTorch in fp32")
    for title in ("task", "form"):
        table.add_column(title, overflow="fold")
    for title in ("rows", "agreement", "metric", "points lost"):
        table.add_column(title, justify="right")
    for loss in losses:
        metric = "–" if loss.metric is None else f"{loss.metric} {loss.reference:.4f} → {loss.quantised:.4f}"
        lost = "–" if loss.points is None else f"{loss.points:+.2f}"
        table.add_row(loss.task, loss.form, str(loss.rows), f"{loss.agreement:.1%}", metric, lost)
    return table


def _merge_sizes(manifest: Manifest, merged: bool) -> str:
    """Bytes of a folded task's weights, kept beside the backbone's matrices or merged into them."""
    layout, method = manifest.layout, manifest.prototype.specification
    beside = sum(tensor.slots * tensor.size for tensor in layout.tensors) * 4
    inside = method.layer().merged_size(layout, family_of(manifest.backbone.family)) * 4
    here = "merged" if merged else "beside the matrices"
    sizes = f"{beside:,} bytes beside the matrices, {inside:,} merged into them"
    return f"{method.title} per folded task: {sizes}; here {here}"
