"""Engines for the graphs of an artifact that lies in a folder, complete but for them."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import onnx_ir as ir

from propetl.bundle.tensors import Arrays
from propetl.errors import MissingExtraError
from propetl.export.calibration import calibration_batches, graph_feeds, rows_in
from propetl.export.passes import PassRecord
from propetl.export.ranges import Range, activation_ranges, widest
from propetl.export.tensorrt_engines.build_progress import Progress
from propetl.export.tensorrt_engines.builder import EngineBuilder, Graph
from propetl.export.tensorrt_engines.flavour import FLAVOURS
from propetl.export.tensorrt_engines.lowering import (
    AS_THEY_ARE,
    INT8,
    backbone_products,
    load_graph,
    lower,
    weights_file,
)
from propetl.export.tensorrt_engines.options import TensorRTOptions, default_shapes
from propetl.export.tensorrt_engines.refit import fill_up, filled_info, refit_bytes, task_weights, weight_names
from propetl.export.weight_store import WeightStore
from propetl.runtime.artifact import Artifact
from propetl.runtime.batching import Feeds
from propetl.runtime.engine_records import EngineInfo, Profile
from propetl.runtime.manifest import GraphInfo, Manifest
from propetl.runtime.signatures import LABELS

ENGINES_FOLDER = "engines"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """One graph at one precision: what an engine is built from.

    Attributes:
        form: of the graph.
        task: that it is bound to.
        precision: that it has.
        info: its interface.
        graph: as the builder takes it.
        weights_graph: path of the graph in the artifact, if the plan is to have no weights.
        refits: task -> weights, if the plan is to serve several tasks.
    """

    form: str
    task: str | None
    precision: str
    info: GraphInfo
    graph: Graph
    weights_graph: str | None = None
    refits: Mapping[str, Arrays] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where its engines go, inside the artifact."""
        return "/".join(filter(None, (ENGINES_FOLDER, self.form, self.task)))


def builders_of(options: TensorRTOptions) -> tuple[EngineBuilder, ...]:
    """A builder for each target; refuses what cannot be built before any work is done."""
    if INT8 in options.precisions and find_spec("onnxruntime") is None:
        raise MissingExtraError("--precision int8", "onnxruntime", "cpu")
    return tuple(EngineBuilder(FLAVOURS[target], options) for target in dict.fromkeys(options.targets))


def build_engines(
    folder: Path, manifest: Manifest, builders: tuple[EngineBuilder, ...], report: Report, progress: Progress
) -> tuple[EngineInfo, ...]:
    """Builds an engine for each graph of the artifact, precision and target, and writes it into ``folder``.

    All graphs are lowered and read by the parser before the first is built.

    Args:
        folder: of the artifact.
        manifest: of the artifact.
        builders: of the targets.
        report: called with a line about each step; lines of detail start with two blanks.
        progress: called while an engine is built.

    Raises:
        BackendError: a graph that the parser refuses, or a build that fails.
        DataError: a row to calibrate on cannot be used.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix=".lowered.")))
        source = _Source(Artifact(folder, manifest), builders[0].options, report)
        wanted = list(_lowered(source, scratch))
        for builder in builders:
            report(f"checking {len(wanted)} graphs: {builder.flavour.target} {builder.version}")
            for item in wanted:
                builder.check(item.graph)
        return tuple(_build(source, builder, item, progress) for builder in builders for item in wanted)


@dataclass(frozen=True)
class _Source:
    """The artifact whose graphs are compiled, and how."""

    artifact: Artifact
    options: TensorRTOptions
    report: Report

    @cached_property
    def batches(self) -> dict[str, list[Feeds]]:
        """Rows to calibrate on, read when a precision first needs them."""
        self.report(f"reading rows to calibrate on: {self.options.calibration or 'the golden rows'}")
        return calibration_batches(self.artifact, self.artifact.manifest.tasks, self.options.calibration)

    def ranges(self, form: str, task: str | None, info: GraphInfo) -> dict[str, Range]:
        """How large the activations of the backbone's products get in one graph."""
        path = self.artifact.path / info.path
        feeds = graph_feeds(self.artifact, form, task, self.batches)
        return activation_ranges(path, self.artifact.path, backbone_products(path), feeds)

    def log(self, records: Iterable[PassRecord]) -> None:
        """Reports what passes did."""
        for record in records:
            self.report(f"  {record}")

    def calibration_rows(self, precision: str, task: str | None) -> int:
        """How many rows decided the ranges of an engine."""
        tasks = self.artifact.manifest.tasks if task is None else (task,)
        return sum(rows_in(self.batches[name]) for name in tasks) if precision == INT8 else 0


def _lowered(source: _Source, scratch: Path) -> Iterator[Wanted]:
    """Every graph at every precision; graphs and weights that exist for the build alone go to ``scratch``."""
    options, root = source.options, source.artifact.path
    for precision in dict.fromkeys(options.precisions):
        folder = root if options.strip_weights and precision not in AS_THEY_ARE else scratch
        with WeightStore(folder / weights_file(precision)) as store:
            for form, info in source.artifact.manifest.forms.items():
                if options.refit and info.graphs:
                    yield _common(source, form, info.graphs, precision, store)
                    continue
                for task, graph in info.all_graphs().items():
                    yield _one(source, form, task, graph, precision, store)


def _one(source: _Source, form: str, task: str | None, info: GraphInfo, precision: str, store: WeightStore) -> Wanted:
    """One graph of the artifact."""
    root, stripped = source.artifact.path, source.options.strip_weights
    path, name = root / info.path, f"{info.path} at {precision}"
    if precision in AS_THEY_ARE:
        graph = Graph(name, path.read_bytes(), root, info.inputs, info.outputs)
        return Wanted(form, task, precision, info, graph, info.path if stripped else None)
    model = load_graph(path, root)
    ranges = source.ranges(form, task, info) if precision == INT8 else {}
    source.log(lower(model, precision, store, ranges))
    graph = Graph(name, _content(model), store.path.parent, info.inputs, info.outputs)
    wanted = Wanted(form, task, precision, info, graph)
    if not stripped:
        return wanted
    kept = f"{wanted.folder}/{precision}.onnx"
    (root / kept).parent.mkdir(parents=True, exist_ok=True)
    (root / kept).write_bytes(graph.content)
    return replace(wanted, weights_graph=kept)


def _common(source: _Source, form: str, infos: Mapping[str, GraphInfo], precision: str, store: WeightStore) -> Wanted:
    """One graph for all tasks of a form that has one for each, and each task's weights."""
    root = source.artifact.path
    models = {task: load_graph(root / info.path, root) for task, info in infos.items()}
    fill_up(models)
    measured = (source.ranges(form, task, info) for task, info in infos.items()) if precision == INT8 else ()
    ranges = widest(measured)
    for model in models.values():
        source.log(lower(model, precision, store, ranges))
    weights, first = task_weights(models), next(iter(models.values()))
    info = filled_info(list(infos.values()))
    name = f"the graphs of form {form} at {precision}"
    graph = Graph(name, _content(first), store.path.parent, info.inputs, info.outputs, weight_names(models))
    return Wanted(form, None, precision, info, graph, refits=weights)


def _content(model: ir.Model) -> bytes:
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def _build(source: _Source, builder: EngineBuilder, item: Wanted, progress: Progress) -> EngineInfo:
    target, options = builder.flavour.target, source.options
    path = f"{item.folder}/{target}-{item.precision}.plan"
    source.report(f"building {path}")
    profiles = _profiles(item, source.artifact.manifest, options)
    plan = builder.build(item.graph, item.precision, profiles, progress)
    file = source.artifact.path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(plan.content)
    source.report(f"  {path}: {len(plan.content):,} bytes in {plan.seconds:.1f} s")
    refits = {task: _write_refit(source, item, task, weights) for task, weights in item.refits.items()}
    return EngineInfo(
        path=path,
        form=item.form,
        task=item.task,
        target=target,
        version=builder.version,
        compute_capabilities=builder.compute_capabilities,
        precision=item.precision,
        profiles=profiles,
        hardware_compatible=options.hardware_compatible,
        version_compatible=options.version_compatible,
        weights_graph=item.weights_graph,
        refits=refits,
        calibration_rows=source.calibration_rows(item.precision, item.task),
        workspace_bytes=None if options.workspace_mib is None else options.workspace_mib << 20,
        optimization_level=options.optimization_level,
        build_seconds=round(plan.seconds, 3),
    )


def _write_refit(source: _Source, item: Wanted, task: str, weights: Arrays) -> str:
    """Writes the weights of ``task``: of a precision, whatever the target."""
    path = f"{item.folder}/{task}/{item.precision}.safetensors"
    content = refit_bytes(task, item.precision, weights)
    (source.artifact.path / path).parent.mkdir(parents=True, exist_ok=True)
    (source.artifact.path / path).write_bytes(content)
    source.report(f"  {path}: {len(content):,} bytes")
    return path


def _profiles(item: Wanted, manifest: Manifest, options: TensorRTOptions) -> tuple[Profile, ...]:
    takes_heads = any(LABELS in tensor.shape for tensor in item.info.inputs)
    widest = max(task.info.outputs for task in manifest.tasks.values()) if takes_heads else None
    shapes = options.shapes or default_shapes(manifest.max_length)
    return tuple(shape.profile(widest) for shape in shapes)
