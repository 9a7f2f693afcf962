"""Plans of TensorRT and TensorRT for RTX, run without ONNX Runtime."""

from functools import partial

from propetl.errors import ArtifactError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engine_records import EngineInfo, GraphName
from propetl.runtime.engines import Engine, EngineOptions
from propetl.runtime.engines.cache import cache_folder
from propetl.runtime.engines.cuda_runtime import Cuda, load_cuda
from propetl.runtime.engines.loaded_plan import KernelCache, LoadedPlan, load_plan
from propetl.runtime.engines.plan_choice import Place, choose_engine
from propetl.runtime.engines.plan_engine import PlanEngine
from propetl.runtime.engines.plan_refit import RefitEngine, refit_weights, shared_plan
from propetl.runtime.engines.provider import PlanProvider
from propetl.runtime.engines.providers import PROVIDERS
from propetl.runtime.engines.tensorrt_flavour import FLAVOURS, Flavour, load_library
from propetl.runtime.generation.parts import PAST
from propetl.runtime.graph_names import named_graphs
from propetl.runtime.manifest import GraphInfo, Stages


def load(artifact: Artifact, graph: GraphInfo, options: EngineOptions) -> Engine:
    """Loads the engine of ``graph``; see :func:`propetl.runtime.engines.load_engine`."""
    flavour = _flavour(options)
    library = load_library(flavour, f"running engines of target {flavour.target}")
    cuda = load_cuda(options.device, flavour.extra)
    name = _name_of(artifact, graph)
    place = Place(flavour.target, library.__version__, cuda.compute_capability())
    info = choose_engine(artifact.manifest.engines, name, options.precision, place)
    make = partial(_plan_engine, artifact, graph, options, info, cuda)
    if name.task is None or not info.refits:
        return make()
    weights = refit_weights(artifact, info.refits[name.task], name.task)
    return RefitEngine(shared_plan(artifact, info.path, options.device, make), name.task, weights, graph)


def can_stage(artifact: Artifact, stages: Stages, options: EngineOptions) -> bool:
    """Whether there are engines of all stages; see :func:`propetl.runtime.engines.can_stage`."""
    target = _flavour(options).target
    built = {
        name
        for engine in artifact.manifest.engines
        if engine.target == target and options.precision in (None, engine.precision)
        for name in engine.serves
    }
    return {_name_of(artifact, graph) for graph in stages.graphs()} <= built


def _flavour(options: EngineOptions) -> Flavour:
    provider = PROVIDERS[options.provider]
    assert isinstance(provider, PlanProvider)
    return FLAVOURS[provider.target]


def _plan_engine(
    artifact: Artifact, graph: GraphInfo, options: EngineOptions, info: EngineInfo, cuda: Cuda
) -> PlanEngine:
    flavour = _flavour(options)
    library = load_library(flavour, f"running engines of target {flavour.target}")
    plan = load_plan(artifact, library, flavour, info)
    kernels = _kernels(artifact, graph, options, plan) if flavour.captures_itself else None
    return PlanEngine(plan, cuda, graph, artifact.manifest.pad_token_id, kernels)


def _kernels(artifact: Artifact, graph: GraphInfo, options: EngineOptions, plan: LoadedPlan) -> KernelCache:
    recurring = not any(PAST in item.shape for item in graph.inputs)
    return KernelCache(plan, cache_folder(artifact, graph, options) / "kernels", recurring)


def _name_of(artifact: Artifact, graph: GraphInfo) -> GraphName:
    """By what name engines know ``graph``."""
    for name, candidate in named_graphs(artifact.manifest.forms).items():
        if candidate.path == graph.path:
            return name
    raise ArtifactError(f"{artifact.path}: {graph.path} belongs to no form; export the bundle again")
