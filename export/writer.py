"""From a bundle to an artifact on disk."""

import dataclasses
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import propetl
from propetl.backbone import Backbone, load_backbone_of
from propetl.bundle.format import TOKENIZER_FOLDER, pack_path
from propetl.bundle.reader import Bundle, read_bundle
from propetl.errors import TaskError
from propetl.export.compiler import Compiled, Compiler
from propetl.export.generation_compiler import GenerationCompiler, generation_info
from propetl.export.golden import golden_of
from propetl.export.graphs import graph_info, write_checked
from propetl.export.halved_graphs import halve_graphs
from propetl.export.kept_traces import KeptTraces
from propetl.export.lowered_graphs import quantize_statically
from propetl.export.merged_decoder import merged_graphs
from propetl.export.needed import check_needed
from propetl.export.option_checks import answers_in_text, check_options
from propetl.export.options import (
    FP32,
    HALVES,
    INT8_STATIC,
    ExportOptions,
)
from propetl.export.polygraphy_files import write_polygraphy_files
from propetl.export.quantisation_loss import check_rows, is_measured, measured_losses
from propetl.export.tensorrt_engines.build_progress import Progress
from propetl.export.tensorrt_engines.engines import build_engines, builders_of
from propetl.export.transformers_layout import add_file, write_config, write_tokenizer
from propetl.export.triton_repository.writer import add_repository
from propetl.export.web_page import add_page
from propetl.export.weight_store import WeightStore
from propetl.files import folder_records, json_bytes
from propetl.model import ProPETLModel
from propetl.runtime.artifact import Artifact, read_artifact
from propetl.runtime.golden import golden_bytes
from propetl.runtime.manifest import (
    BACKBONE_FILE,
    GOLDEN_FILE,
    MANIFEST,
    MODEL,
    ArtifactTask,
    FormInfo,
    GraphInfo,
    Manifest,
    Stages,
)
from propetl.runtime.signatures import BANK, FOLDED, FORM_RULES, STAGE_APPLY, STAGE_RUN, STAGES
from propetl.runtime.tuning import tune
from propetl.sealed import FILES, sealed
from propetl.staging import staged_folder

Report = Callable[[str], None]


def export_bundle(
    bundle_path: Path,
    output: Path,
    options: ExportOptions,
    report: Report = lambda line: None,
    progress: Progress = lambda phase, share: None,
) -> Manifest:
    """Compiles a bundle to an artifact, which appears whole at ``output`` or not at all.

    Args:
        bundle_path: folder of the bundle.
        output: folder to write.
        options: forms, tasks and the rest.
        report: called with a line about each step; lines of detail start with two blanks.
        progress: called with phase and share while an engine is built.

    Raises:
        ConfigurationError: options that do not go together, or ``output`` exists.
        BackendError: an engine that cannot be built here, a loss that cannot be measured here, or a library that is
            not installed.
        BundleError: the bundle is damaged, or the backbone found is another one.
        TaskError: a task that the bundle does not have.
        LossTooLarge: quantising costs more than ``options.max_drop``.
        CheckFailed: the quantised artifact does not hold what it should.
    """
    check_needed(options)
    bundle = read_bundle(bundle_path)
    tasks = tasks_of(bundle, options)
    check_options(bundle, options, tasks)
    check_rows({task: bundle.info.tasks[task] for task in tasks}, options)
    builders = builders_of(options.engines) if options.engines else ()
    with staged_folder(output, overwrite=options.overwrite, marker=MANIFEST) as staging:
        report("loading the backbone")
        backbone = load_backbone_of(bundle.info.backbone, options.backbone, allow_pickle=options.allow_pickle)
        model = ProPETLModel.from_bundle(bundle, backbone, merge=options.merge_weights)
        graphs = _write_graphs(staging, model, bundle, tasks, options, report)
        report("writing packs, tokenizer and golden rows")
        _write_companions(staging, model, bundle, tasks)
        manifest = _manifest(staging, bundle, model, tasks, graphs, options)
        if options.quantize == INT8_STATIC:
            quantize_statically(staging, manifest, options.data, report)
        if options.quantize in HALVES:
            halved = halve_graphs(staging, manifest, options.quantize, options.data, report)
            manifest = dataclasses.replace(manifest, float16=halved.float16)
            graphs = [(dataclasses.replace(one, model=halved.graphs[info.path]), info) for one, info in graphs]
        if options.merge_decoders:
            report("merging decoders")
            for merged in merged_graphs(one for one, _ in graphs):
                _write_graph(staging, merged)  # no form has it: sessions run the two
        _complete_folded_folders(staging, backbone, bundle, graphs, options.standalone)
        if options.polygraphy:
            report("recording inputs and outputs for Polygraphy")
            write_polygraphy_files(Artifact(staging, manifest), options.standalone)
        made = Artifact(staging, manifest)
        engines = build_engines(made, staging, builders, report, progress) if builders else ()
        manifest = dataclasses.replace(manifest, engines=engines, files=folder_records(staging))
        if options.triton:
            report("writing the model repository for Triton")
            served = add_repository(staging, manifest, options.max_batch, options.standalone)
            manifest = dataclasses.replace(manifest, files=dict(sorted((manifest.files | served).items())))
        if options.web:
            report("writing the page for browsers")
            manifest = dataclasses.replace(manifest, files=dict(sorted((manifest.files | add_page(staging)).items())))
        (staging / MANIFEST).write_bytes(json_bytes(sealed(manifest.to_json(), FILES)))
        report("checking the artifact")
        read_artifact(staging, verify=False)  # the hashes were taken from these very files just now
        if is_measured(options):
            report("measuring what quantising costs")
            manifest = dataclasses.replace(manifest, losses=measured_losses(staging, bundle.path, options))
            (staging / MANIFEST).write_bytes(json_bytes(sealed(manifest.to_json(), FILES)))
        if options.tune:
            report("tuning for the CPU of this machine")
            tune(staging)
    return manifest


def tasks_of(bundle: Bundle, options: ExportOptions) -> tuple[str, ...]:
    """Tasks to export: those asked for, or all.

    Raises:
        TaskError: one that the bundle does not have, or none at all.
    """
    tasks = tuple(dict.fromkeys(options.tasks)) or tuple(bundle.info.tasks)
    for task in tasks:
        bundle.pack(task)
    if not tasks:
        raise TaskError(f"{bundle.path} has no tasks to export")
    return tasks


def _write_graphs(
    staging: Path,
    model: ProPETLModel,
    bundle: Bundle,
    tasks: tuple[str, ...],
    options: ExportOptions,
    report: Report,
) -> list[tuple[Compiled, GraphInfo]]:
    kind = GenerationCompiler if answers_in_text(bundle, tasks) else Compiler

    # Floats of half the bits are made of whole float32 graphs, which are measured first.
    precision = FP32 if options.quantize in HALVES else options.quantize
    kept = KeptTraces.of(options.traces)
    with WeightStore(staging / BACKBONE_FILE) as store:
        compiler = kind(model, bundle, tasks, options.opset, options.operators, precision, store, kept, report)
        compiled = chain.from_iterable(map(compiler.compile, options.forms))
        stages = compiler.stages() if _staged(options.forms) else ()
        return [(one, _write_graph(staging, one)) for one in chain(compiled, stages)]


def _staged(forms: Sequence[str]) -> bool:
    return any(FORM_RULES[form].staged for form in forms)


def _write_graph(staging: Path, compiled: Compiled) -> GraphInfo:
    write_checked(compiled.model, staging, staging / compiled.path)
    return graph_info(compiled.model, compiled.path)


def _write_companions(staging: Path, model: ProPETLModel, bundle: Bundle, tasks: Sequence[str]) -> None:
    (staging / "tasks").mkdir()
    for task in tasks:
        (staging / pack_path(task)).write_bytes((bundle.path / pack_path(task)).read_bytes())
    write_tokenizer(bundle.tokenizer_folder, staging / TOKENIZER_FOLDER)
    goldens = {task: golden_of(model, bundle, task) for task in tasks}
    (staging / GOLDEN_FILE).write_bytes(golden_bytes(goldens))


def _complete_folded_folders(
    staging: Path,
    backbone: Backbone,
    bundle: Bundle,
    graphs: list[tuple[Compiled, GraphInfo]],
    standalone: bool,
) -> None:
    folders = {
        (staging / graph.path).parent: compiled.part
        for compiled, graph in graphs
        if compiled.form == FOLDED and compiled.part is not None
    }
    for folder, task in folders.items():
        write_config(folder, backbone, bundle.info.tasks[task])
        for source in [staging / BACKBONE_FILE, *sorted((staging / TOKENIZER_FOLDER).iterdir())]:
            add_file(source, folder / source.name, standalone)


def _manifest(
    staging: Path,
    bundle: Bundle,
    model: ProPETLModel,
    tasks: tuple[str, ...],
    graphs: list[tuple[Compiled, GraphInfo]],
    options: ExportOptions,
) -> Manifest:
    return Manifest(
        operators=options.operators,
        precision=options.quantize,
        opset=options.opset,
        max_length=bundle.info.max_length,
        pad_token_id=model.backbone.pad_token_id,
        head=bundle.info.head,
        bundle_sha256=bundle.sha256,
        prototype_sha256=bundle.prototype_sha256,
        backbone=bundle.info.backbone,
        prototype=bundle.info.prototype,
        tasks={task: ArtifactTask(bundle.info.tasks[task], pack_path(task)) for task in tasks},
        forms={form: _form_info(form, tasks, graphs) for form in options.forms},
        tools=_tools(),
        files={},
        generation=generation_info(model) if answers_in_text(bundle, tasks) else None,
    )


def _form_info(form: str, tasks: tuple[str, ...], graphs: list[tuple[Compiled, GraphInfo]]) -> FormInfo:
    task_ids = {task: row for row, task in enumerate(tasks)} if form == BANK else {}
    steps: dict[str, dict[str | None, GraphInfo]] = {}
    for compiled, graph in graphs:
        if compiled.form == form:
            steps.setdefault(compiled.step, {})[compiled.part] = graph
    parts = {
        step: FormInfo(mine.get(None), {task: graph for task, graph in mine.items() if task})
        for step, mine in steps.items()
    }
    stages = _stages(graphs) if FORM_RULES[form].staged else None
    if parts.keys() != {MODEL}:
        return FormInfo(task_ids=task_ids, stages=stages, parts=parts)
    return dataclasses.replace(parts[MODEL], task_ids=task_ids, stages=stages)


def _stages(graphs: list[tuple[Compiled, GraphInfo]]) -> Stages | None:
    mine = [(compiled, graph) for compiled, graph in graphs if compiled.form == STAGES]
    run = {compiled.step: graph for compiled, graph in mine if compiled.part == STAGE_RUN}
    return next((Stages(graph, run) for compiled, graph in mine if compiled.part == STAGE_APPLY), None)


def _tools() -> dict[str, str]:
    packages = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript")
    return {
        "propetl": propetl.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
