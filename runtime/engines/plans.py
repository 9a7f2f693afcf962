"""Plans of TensorRT and TensorRT for RTX, run without ONNX Runtime."""

from functools import partial

from propetl.errors import ArtifactError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engine_records import EngineInfo
from propetl.runtime.engines import Engine, EngineOptions
from propetl.runtime.engines.cache import cache_folder
from propetl.runtime.engines.cuda_runtime import Cuda, load_cuda
from propetl.runtime.engines.plan_choice import Place, choose_engine
from propetl.runtime.engines.plan_engine import PlanEngine
from propetl.runtime.engines.plan_library import PLAN_LIBRARIES, KernelCache, load_library, load_plan
from propetl.runtime.engines.plan_refit import RefitEngine, refit_weights, shared_plan
from propetl.runtime.manifest import GraphInfo

STAGING: tuple[str, ...] = ()  # a plan is of one graph


def load(artifact: Artifact, graph: GraphInfo, options: EngineOptions) -> Engine:
    """Loads the engine of ``graph``; see :func:`propetl.runtime.engines.load_engine`."""
    kind = PLAN_LIBRARIES[options.provider]
    library = load_library(kind)
    cuda = load_cuda(options.device, kind.extra)
    form, task = _graph_of(artifact, graph)
    place = Place(kind.target, library.__version__, cuda.compute_capability())
    info = choose_engine(artifact.manifest.engines, form, task, options.precision, place)
    make = partial(_plan_engine, artifact, graph, options, info, cuda)
    if task is None or not info.refits:
        return make()
    weights = refit_weights(artifact, info.refits[task], task)
    return RefitEngine(shared_plan(artifact, info.path, options.device, make), task, weights, graph)


def _plan_engine(
    artifact: Artifact, graph: GraphInfo, options: EngineOptions, info: EngineInfo, cuda: Cuda
) -> PlanEngine:
    kind = PLAN_LIBRARIES[options.provider]
    plan = load_plan(artifact, load_library(kind), kind, info)
    kernels = KernelCache(plan, cache_folder(artifact, graph, options) / "kernels") if kind.captures_itself else None
    return PlanEngine(plan, cuda, graph, artifact.manifest.pad_token_id, kernels)


def _graph_of(artifact: Artifact, graph: GraphInfo) -> tuple[str, str | None]:
    """Form and task that a graph belongs to."""
    for form, info in artifact.manifest.forms.items():
        for task, candidate in info.all_graphs().items():
            if candidate.path == graph.path:
                return form, task
    raise ArtifactError(f"{artifact.path}: {graph.path} belongs to no form; export the bundle again")
