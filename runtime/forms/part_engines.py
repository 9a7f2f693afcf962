"""The engines of a backbone that generates, one for each of its parts, and how a generation starts on them."""

from collections.abc import Callable, Mapping

from propetl.errors import BackendError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import Engine, EngineOptions, KeepingEngine, load_engine
from propetl.runtime.forms import Feeds
from propetl.runtime.forms.text_tasks import GeneratingTask
from propetl.runtime.generation.cached_steps import EncoderDecoderSteps
from propetl.runtime.generation.decoder_steps import DecoderSteps
from propetl.runtime.generation.generate import OnTokens, generate
from propetl.runtime.generation.info import GenerationInfo
from propetl.runtime.generation.options import GenerationOptions
from propetl.runtime.generation.steps import Steps, Tokens
from propetl.runtime.generation.task_inputs import TaskInputs
from propetl.runtime.manifest import GraphInfo
from propetl.task import TaskSpec


class PartEngines:
    """Engines of ``graphs``, which are by part.

    Args:
        artifact: whose graphs they are.
        graphs: of all parts of one form.
        options: of the engines.

    Raises:
        BackendError: the provider cannot keep a cache.
    """

    def __init__(self, artifact: Artifact, graphs: Mapping[str, GraphInfo], options: EngineOptions) -> None:
        self._graphs = graphs
        self._engines = {part: _keeping(artifact, graph, options) for part, graph in graphs.items()}
        self._info = generation_of(artifact)
        self.taken = {part: frozenset(item.name for item in graph.inputs) for part, graph in graphs.items()}

    @property
    def with_graphs(self) -> tuple[tuple[GraphInfo, Engine], ...]:
        """Each engine with its graph."""
        return tuple((self._graphs[part], engine) for part, engine in self._engines.items())

    @property
    def any(self) -> KeepingEngine:
        """One of them, which prepares tensors for all."""
        return next(iter(self._engines.values()))

    def start(self, feeds: Feeds, task: TaskInputs) -> Steps:
        """A generation over token inputs ``[rows, sequence]``."""
        kind = DecoderSteps if self._info.kind == "decoder" else EncoderDecoderSteps
        return kind(self._engines, self._info, feeds, task)

    def generate(self, feeds: Feeds, task: TaskInputs, options: GenerationOptions, places: Tokens) -> list[Tokens]:
        """The tokens of each row, all generated in the same way."""
        return generate(self.start(feeds, task), options, self._info.special, places)

    def bound(self, name: str, info: TaskSpec, inputs: Callable[[int], TaskInputs]) -> GeneratingTask:
        """A task that runs here; ``inputs`` gives its share for a number of rows."""

        def start(feeds: Feeds) -> Steps:
            return self.start(feeds, inputs(len(feeds["input_ids"])))

        def run(
            feeds: Feeds,
            options: GenerationOptions,
            places: Tokens | None = None,
            on_tokens: OnTokens | None = None,
        ) -> list[Tokens]:
            return generate(start(feeds), options, self._info.special, places, on_tokens)

        return GeneratingTask(name, info, lambda feeds: start(feeds).first(), run, start)


def generation_of(artifact: Artifact) -> GenerationInfo:
    """How the backbone of ``artifact`` generates, which it does."""
    info = artifact.manifest.generation
    assert info is not None
    return info


def _keeping(artifact: Artifact, graph: GraphInfo, options: EngineOptions) -> KeepingEngine:
    engine = load_engine(artifact, graph, options)
    if not isinstance(engine, KeepingEngine):
        raise BackendError(f"provider {options.provider!r} cannot keep a cache, and so not generate; use cpu")
    return engine
