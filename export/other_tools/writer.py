"""From a bundle to a folder that another tool reads."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import propetl
from propetl.backbone import load_backbone_of
from propetl.bundle.format import TOKENIZER_FOLDER
from propetl.bundle.reader import Bundle, read_bundle
from propetl.errors import ConfigurationError
from propetl.export.layouts import TEXT, by_place
from propetl.export.needed import check_needed
from propetl.export.options import FP32, ONNX_ADAPTER, OPSETS, OTHER_TOOLS, PEFT, ExportOptions
from propetl.export.other_tools.onnx_adapter import SUFFIX, adapter_tensors, write_adapter, write_graph
from propetl.export.other_tools.peft_folder import check_exportable, write_peft_folder
from propetl.export.transformers_layout import write_tokenizer
from propetl.export.writer import tasks_of
from propetl.files import folder_records, json_bytes
from propetl.model import ProPETLModel
from propetl.runtime.operators import STANDARD
from propetl.staging import staged_folder

FORMAT = "propetl-other-tools"
VERSION = 1
MANIFEST = "export.json"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        form: one of :data:`~propetl.export.options.OTHER_TOOLS`.
        tasks: path of each task's folder or file.
        files: size and SHA-256 of every file but the manifest.
    """

    form: str
    tasks: dict[str, str]
    files: dict[str, dict[str, Any]]


def export_for_other_tools(
    bundle_path: Path, output: Path, options: ExportOptions, report: Report = lambda line: None
) -> Written:
    """Writes a bundle's tasks for another tool; the folder appears whole at ``output`` or not at all.

    Args:
        bundle_path: folder of the bundle.
        output: folder to write.
        options: one form of :data:`~propetl.export.options.OTHER_TOOLS`, and the tasks.
        report: called with a line about each step.

    Raises:
        ConfigurationError: several forms, or a bundle that the form cannot express; or ``output`` exists.
        BundleError: the bundle is damaged, or the backbone found is another one.
        TaskError: a task that the bundle does not have.
        MissingExtraError: ONNX Runtime is needed to write its files, and is not installed.
    """
    check_needed(options)
    bundle = read_bundle(bundle_path)
    tasks = tasks_of(bundle, options)
    form = _checked_form(bundle, tasks, options)
    with staged_folder(output, overwrite=options.overwrite, marker=MANIFEST) as staging:
        report("loading the backbone")
        backbone = load_backbone_of(bundle.info.backbone, options.backbone, allow_pickle=options.allow_pickle)
        model = ProPETLModel.from_bundle(bundle, backbone)
        one = _peft_folder if form == PEFT else _onnx_adapter
        paths = {}
        for task in tasks:
            report(f"writing: {task}")
            paths[task] = one(staging, model, task)
            if form == PEFT:
                write_tokenizer(bundle.tokenizer_folder, staging / task)
        if form == ONNX_ADAPTER:
            report("tracing: weights of the task as inputs")
            write_graph(staging, model, tasks[0], _metadata(bundle, tasks), options)
            write_tokenizer(bundle.tokenizer_folder, staging / TOKENIZER_FOLDER)
        written = Written(form, paths, folder_records(staging))
        (staging / MANIFEST).write_bytes(json_bytes(_manifest(bundle, written)))
    return written


def _checked_form(bundle: Bundle, tasks: tuple[str, ...], options: ExportOptions) -> str:
    form = options.forms[0] if options.forms else None
    if len(options.forms) != 1 or form not in OTHER_TOOLS:
        raise ConfigurationError(
            f"forms {' and '.join(OTHER_TOOLS)} are folders for other tools, one form each; got "
            f"{', '.join(options.forms) or 'none'}: export each with a command and an output of its own"
        )
    if options.opset not in OPSETS:
        raise ConfigurationError(f"opset {options.opset} is not among those tested: {', '.join(map(str, OPSETS))}")
    if options.merge_weights:
        raise ConfigurationError(f"--merge-weights is for folded form; form {form} keeps the method's weights apart")
    if options.polygraphy:
        raise ConfigurationError(f"--polygraphy records the graphs of an artifact; form {form} is no artifact")
    if options.engines is not None:
        raise ConfigurationError(f"--target builds engines of an artifact's graphs; form {form} is no artifact")
    if options.quantize != FP32:
        raise ConfigurationError(f"--quantize is for artifacts; form {form} keeps its weights in float32")
    if options.tune:
        raise ConfigurationError(f"--tune is for artifacts; form {form} is run by other tools")
    if options.operators != STANDARD:
        raise ConfigurationError(f"--operators is for artifacts; form {form} is made of standard operators")
    info = bundle.info
    if form == PEFT:
        check_exportable(info, tasks)
        return form
    places = by_place({task: info.tasks[task] for task in tasks})
    if text := places.get(TEXT):
        raise ConfigurationError(f"form {form} is for tasks with a head; {text[0]} is answered in text")
    if len(places) > 1:
        raise ConfigurationError(
            f"form {form} is one graph, and some tasks tag words while others answer once a row; "
            "export each kind by itself with --task"
        )
    if info.prototype.specification.trains_backbone:
        raise ConfigurationError(f"form {form}: a fully trained backbone is a model of its own; use optimum")
    return form


def _peft_folder(staging: Path, model: ProPETLModel, task: str) -> str:
    (staging / task).mkdir()
    write_peft_folder(staging / task, model, task)
    return task


def _onnx_adapter(staging: Path, model: ProPETLModel, task: str) -> str:
    path = f"{task}{SUFFIX}"
    write_adapter(staging / path, adapter_tensors(model, task))
    return path


def _metadata(bundle: Bundle, tasks: tuple[str, ...]) -> dict[str, str]:
    labels = {task: list(bundle.info.tasks[task].labels) for task in tasks}
    return {
        "propetl.form": ONNX_ADAPTER,
        "propetl.bundle_sha256": bundle.sha256,
        "propetl.tasks": json.dumps(list(tasks), ensure_ascii=False),
        "propetl.labels": json.dumps(labels, ensure_ascii=False),
    }


def _manifest(bundle: Bundle, written: Written) -> dict[str, Any]:
    info = bundle.info
    return {
        "format": FORMAT,
        "version": VERSION,
        "form": written.form,
        "created_by": f"propetl {propetl.__version__}",
        "bundle_sha256": bundle.sha256,
        "backbone": asdict(info.backbone),
        "prototype": info.prototype.to_json(),
        "head": info.head,
        "max_length": info.max_length,
        "tasks": {task: info.tasks[task].to_json() | {"path": path} for task, path in written.tasks.items()},
        "files": written.files,
    }
