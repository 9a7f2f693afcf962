"""Engines for the graphs of an artifact."""

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
from propetl.export.float_range import constant_sizes, largest, too_wide
from propetl.export.passes import PassRecord
from propetl.export.ranges import Range, activation_ranges, widest
from propetl.export.rows_through_graphs import RowsThroughGraphs
from propetl.export.tensorrt_engines.build_progress import Progress
from propetl.export.tensorrt_engines.builder import EngineBuilder, Graph
from propetl.export.tensorrt_engines.lowering import (
    AS_THEY_ARE,
    IN_FLOAT16,
    INT8,
    backbone_products,
    load_graph,
    lower,
    weights_file,
)
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.export.tensorrt_engines.profiles import profiles_of
from propetl.export.tensorrt_engines.refit import fill_up, filled_info, refit_bytes, task_weights, weight_names
from propetl.export.weight_store import WeightStore
from propetl.runtime.artifact import Artifact
from propetl.runtime.batching import Feeds
from propetl.runtime.engine_records import EngineInfo, GraphName
from propetl.runtime.engines.tensorrt_flavour import FLAVOURS
from propetl.runtime.graph_names import named_graphs
from propetl.runtime.manifest import MODEL, GraphInfo

ENGINES_FOLDER = "engines"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """One graph at one precision: what an engine is built from.

    Attributes:
        name: of the graph; of one for all folded tasks the task is open.
        precision: that it has.
        info: its interface.
        graph: as the builder takes it.
        weights_graph: path of the graph in the artifact, if the plan is to have no weights.
        refits: task -> weights, if the plan is to serve several tasks.
    """

    name: GraphName
    precision: str
    info: GraphInfo
    graph: Graph
    weights_graph: str | None = None
    refits: Mapping[str, Arrays] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where its engines go, inside the artifact."""
        return f"{ENGINES_FOLDER}/{self.name}"


def builders_of(options: TensorRTOptions) -> tuple[EngineBuilder, ...]:
    """A builder for each target; refuses what cannot be built before any work is done."""
    for precision in options.precisions:
        if precision in IN_FLOAT16 and find_spec("onnxruntime") is None:
            raise MissingExtraError(f"--precision {precision}", "onnxruntime", "cpu")
    return tuple(EngineBuilder(FLAVOURS[target], options) for target in dict.fromkeys(options.targets))


def build_engines(
    artifact: Artifact, output: Path, builders: tuple[EngineBuilder, ...], report: Report, progress: Progress
) -> tuple[EngineInfo, ...]:
    """Builds an engine for each graph of ``artifact``, precision and target, and writes it below ``output``.

    All graphs are lowered and read by the parser before the first is built.

    Args:
        artifact: complete but for them.
        output: the artifact's folder, or another that is to be merged into it.
        builders: of the targets.
        report: called with a line about each step; lines of detail start with two blanks.
        progress: called while an engine is built.

    Raises:
        BackendError: a graph that the parser refuses, or a build that fails.
        DataError: a row to calibrate on cannot be used.
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=output, prefix=".lowered.")))
        source = _Source(artifact, output, builders[0].options, report)
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
    output: Path
    options: TensorRTOptions
    report: Report

    @cached_property
    def batches(self) -> dict[str, list[Feeds]]:
        """Rows to calibrate on, read when a precision first needs them."""
        self.report(f"reading rows to calibrate on: {self.options.calibration or 'the golden rows'}")
        return calibration_batches(self.artifact, self.artifact.manifest.tasks, self.options.calibration)

    @cached_property
    def _peaks(self) -> dict[str, dict[str, float]]:
        """How large values get in every graph: on the golden rows, and on those to calibrate on where there are any."""
        self.report("measuring how large activations get")
        tasks = self.artifact.manifest.tasks
        batches = calibration_batches(self.artifact, tasks, None)
        for task in tasks if self.options.calibration is not None else ():
            batches[task] = [*batches[task], *self.batches[task]]
        return RowsThroughGraphs(self.artifact, self.artifact.path, batches).peaks

    def peaks(self, precision: str, graphs: Mapping[str, ir.Model]) -> dict[str, float] | None:
        """The largest size of each value in ``graphs``, which are by path and alike; None where it does not matter."""
        if precision not in IN_FLOAT16:
            return None
        found = largest(self._peaks[path] | constant_sizes(model.graph) for path, model in graphs.items())
        wide = {path: len(too_wide(model.graph, found)) for path, model in graphs.items()}
        for path, count in wide.items():
            self.report(f"  {path} at {precision}: {count} operators stay float32")
        return found

    def ranges(self, name: GraphName, info: GraphInfo) -> dict[str, Range]:
        """How large the activations of the backbone's products get in one graph."""
        path = self.artifact.path / info.path
        products = backbone_products(path)
        if not products:
            return {}
        return activation_ranges(path, self.artifact.path, products, graph_feeds(self.artifact, name, self.batches))

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
    options = source.options
    for precision in dict.fromkeys(options.precisions):
        folder = source.output if options.strip_weights and precision not in AS_THEY_ARE else scratch
        with WeightStore(folder / weights_file(precision)) as store:
            if options.refit:
                for form, info in source.artifact.manifest.forms.items():
                    if info.graphs:
                        yield _common(source, form, info.graphs, precision, store)
            for name, graph in named_graphs(source.artifact.manifest.forms).items():
                if name.task is None or not options.refit:
                    yield _one(source, name, graph, precision, store)


def _one(source: _Source, name: GraphName, info: GraphInfo, precision: str, store: WeightStore) -> Wanted:
    """One graph of the artifact."""
    root, stripped = source.artifact.path, source.options.strip_weights
    path, title = root / info.path, f"{info.path} at {precision}"
    if precision in AS_THEY_ARE:
        graph = Graph(title, path.read_bytes(), root, info.inputs, info.outputs)
        return Wanted(name, precision, info, graph, info.path if stripped else None)
    model = load_graph(path, root)
    ranges = source.ranges(name, info) if precision == INT8 else {}
    source.log(lower(model, precision, store, ranges, source.peaks(precision, {info.path: model})))
    graph = Graph(title, _content(model), store.path.parent, info.inputs, info.outputs)
    wanted = Wanted(name, precision, info, graph)
    if not stripped:
        return wanted
    kept = f"{wanted.folder}/{precision}.onnx"
    _write(source, kept, graph.content)
    return replace(wanted, weights_graph=kept)


def _common(source: _Source, form: str, infos: Mapping[str, GraphInfo], precision: str, store: WeightStore) -> Wanted:
    """One graph for all tasks of a form that has one for each, and each task's weights."""
    root = source.artifact.path
    models = {task: load_graph(root / info.path, root) for task, info in infos.items()}
    fill_up(models)
    names = {task: GraphName(form, task, MODEL) for task in infos}
    measured = (source.ranges(names[task], info) for task, info in infos.items()) if precision == INT8 else ()
    ranges = widest(measured)
    peaks = source.peaks(precision, {infos[task].path: model for task, model in models.items()})
    for model in models.values():
        source.log(lower(model, precision, store, ranges, peaks))
    weights, first = task_weights(models), next(iter(models.values()))
    info = filled_info(list(infos.values()))
    name = f"the graphs of form {form} at {precision}"
    graph = Graph(name, _content(first), store.path.parent, info.inputs, info.outputs, weight_names(models))
    return Wanted(GraphName(form, None, MODEL), precision, info, graph, refits=weights)


def _content(model: ir.Model) -> bytes:
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def _build(source: _Source, builder: EngineBuilder, item: Wanted, progress: Progress) -> EngineInfo:
    target, options = builder.flavour.target, source.options
    path = f"{item.folder}/{target}-{item.precision}.plan"
    source.report(f"building {path}")
    profiles = profiles_of(item.info, source.artifact.manifest, options)
    plan = builder.build(item.graph, item.precision, profiles, progress)
    _write(source, path, plan.content)
    source.report(f"  {path}: {len(plan.content):,} bytes in {plan.seconds:.1f} s")
    refits = {task: _write_refit(source, item, task, weights) for task, weights in item.refits.items()}
    return EngineInfo(
        path=path,
        form=item.name.form,
        task=item.name.task,
        part=item.name.part,
        target=target,
        version=builder.version,
        compute_capabilities=builder.compute_capabilities,
        precision=item.precision,
        profiles=profiles,
        hardware_compatible=options.hardware_compatible,
        version_compatible=options.version_compatible,
        weights_graph=item.weights_graph,
        refits=refits,
        calibration_rows=source.calibration_rows(item.precision, item.name.task),
        workspace_bytes=None if options.workspace_mib is None else options.workspace_mib << 20,
        optimization_level=options.optimization_level,
        build_seconds=round(plan.seconds, 3),
    )


def _write_refit(source: _Source, item: Wanted, task: str, weights: Arrays) -> str:
    """Writes the weights of ``task``: of a precision, whatever the target."""
    path = f"{item.folder}/{task}/{item.precision}.safetensors"
    content = refit_bytes(task, item.precision, weights)
    _write(source, path, content)
    source.report(f"  {path}: {len(content):,} bytes")
    return path


def _write(source: _Source, path: str, content: bytes) -> None:
    file = source.output / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
