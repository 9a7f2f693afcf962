"""Engines for the graphs of an artifact that lies in a folder, complete but for them."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from propetl.export.tensorrt_engines.build_log import Progress
from propetl.export.tensorrt_engines.builder import EngineBuilder, Graph
from propetl.export.tensorrt_engines.flavour import FLAVOURS
from propetl.export.tensorrt_engines.lowering import AS_THEY_ARE, lower_graph, weights_file
from propetl.export.tensorrt_engines.options import TensorRTOptions, default_shapes
from propetl.export.weight_store import WeightStore
from propetl.runtime.engine_records import EngineInfo, Profile
from propetl.runtime.manifest import GraphInfo, Manifest
from propetl.runtime.signatures import LABELS

ENGINES_FOLDER = "engines"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """One graph at one precision: what an engine is built from."""

    form: str
    task: str | None
    precision: str
    info: GraphInfo
    graph: Graph

    @property
    def folder(self) -> str:
        """Where its engines go, inside the artifact."""
        return "/".join(filter(None, (ENGINES_FOLDER, self.form, self.task)))


def builders_of(options: TensorRTOptions) -> tuple[EngineBuilder, ...]:
    """A builder for each target; refuses what cannot be built before any work is done."""
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
    """
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix=".lowered.")))
        wanted = list(_lowered(folder, scratch, manifest, builders[0].options, report))
        for builder in builders:
            report(f"checking {len(wanted)} graphs: {builder.flavour.target} {builder.version}")
            for item in wanted:
                builder.check(item.graph)
        return tuple(
            _build(folder, manifest, builder, item, report, progress) for builder in builders for item in wanted
        )


def _lowered(
    folder: Path, scratch: Path, manifest: Manifest, options: TensorRTOptions, report: Report
) -> Iterator[Wanted]:
    """Every graph at every precision; graphs and weights that exist for the build alone go to ``scratch``."""
    for precision in dict.fromkeys(options.precisions):
        with WeightStore(scratch / weights_file(precision)) as store:
            for form, info in manifest.forms.items():
                for task, graph in info.all_graphs().items():
                    made = _graph(folder, graph, precision, store, report)
                    yield Wanted(form, task, precision, graph, made)


def _graph(folder: Path, info: GraphInfo, precision: str, store: WeightStore, report: Report) -> Graph:
    source, name = folder / info.path, f"{info.path} at {precision}"
    if precision in AS_THEY_ARE:
        return Graph(name, source.read_bytes(), folder, info.inputs, info.outputs)
    model, records = lower_graph(source, folder, precision, store)
    for record in records:
        report(f"  {record}")
    return Graph(name, ir.to_proto(model).SerializeToString(), store.path.parent, info.inputs, info.outputs)


def _build(
    folder: Path, manifest: Manifest, builder: EngineBuilder, item: Wanted, report: Report, progress: Progress
) -> EngineInfo:
    target, options = builder.flavour.target, builder.options
    path = f"{item.folder}/{target}-{item.precision}.plan"
    report(f"building {path}")
    profiles = _profiles(item, manifest, options)
    plan = builder.build(item.graph, item.precision, profiles, progress)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(plan.content)
    report(f"  {path}: {len(plan.content):,} bytes in {plan.seconds:.1f} s")
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
        workspace_bytes=None if options.workspace_mib is None else options.workspace_mib << 20,
        optimization_level=options.optimization_level,
        build_seconds=round(plan.seconds, 3),
    )


def _profiles(item: Wanted, manifest: Manifest, options: TensorRTOptions) -> tuple[Profile, ...]:
    takes_heads = any(LABELS in tensor.shape for tensor in item.info.inputs)
    widest = max(task.info.outputs for task in manifest.tasks.values()) if takes_heads else None
    shapes = options.shapes or default_shapes(manifest.max_length)
    return tuple(shape.profile(widest) for shape in shapes)
