"""From what a user asks for to what is going to be measured; all that can be refused is refused here."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from propetl.bundle.reader import read_bundle
from propetl.errors import ConfigurationError, MissingExtraError
from propetl.runtime.artifact import Artifact, read_artifact
from propetl.runtime.bench.messages import Cell, Vocabulary
from propetl.runtime.engines import EngineOptions
from propetl.runtime.engines.cuda_runtime import has_cuda_bindings
from propetl.runtime.engines.provider import PlanProvider
from propetl.runtime.engines.providers import PROVIDERS
from propetl.runtime.engines.tensorrt_flavour import FLAVOURS
from propetl.runtime.forms.choose import choose_form
from propetl.runtime.signatures import BARE, SWITCHABLE
from propetl.runtime.tokenizer_library import load_tokenizer

Rounds = TypeVar("Rounds")

EAGER = "eager"
SEQUENCES = (16, 64, 128)
MOST_TASKS = 4
"""Tasks that switching and mixing take turns with; each is a graph of its own in folded form."""

_DEFAULT_MIXED_ROWS = 8
_DEFAULT_TOKENS = 32
_LEAST_TOKENS = 2
_PROMPT_TOKENS = (64,)
_SETTLING_SECONDS = 0.1
_FIRST_ANSWER_TOKENS = 16


@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        forms: of the artifact; empty for all. The bare backbone always runs beside them if it is there.
        batches: batch sizes.
        sequences: sequence lengths; empty for the usual ones.
        usual_sequences: of these, those that the artifact takes.
        threads: inside one operator.
        task: the task of all calls but those that switch or mix; None for the first.
        rounds: times that every figure is taken, one round after the other.
        seconds: of running per visit, that is per round, runtime and cell.
        bundle: adds PyTorch eager, which runs this bundle.
        allow_pickle: for it, read a backbone that has no safetensors, tensors alone.
        provider: of the engine.
        device: number of the GPU, for providers that run on one.
        engine_cache: folder for engines that a provider builds; None for the user's cache folder.
        precision: which of several engines a provider of plans runs; None for the first.
        new_tokens: that every call generates for each row, where answers are generated; None for the usual number.
        beams: of these generations; None for one.
    """

    forms: tuple[str, ...] = ()
    batches: tuple[int, ...] = (1, 8)
    sequences: tuple[int, ...] = ()
    usual_sequences: tuple[int, ...] = SEQUENCES
    new_tokens: int | None = None
    beams: int | None = None
    threads: int = 1
    task: str | None = None
    rounds: int = 7
    seconds: float = 0.35
    bundle: Path | None = None
    allow_pickle: bool = False
    provider: str = "cpu"
    device: int = 0
    engine_cache: Path | None = None
    precision: str | None = None

    @property
    def engine(self) -> EngineOptions:
        """How engines are to run."""
        return EngineOptions(
            self.provider,
            self.threads,
            device=self.device,
            engine_cache=self.engine_cache,
            precision=self.precision,
        )

    def __post_init__(self) -> None:
        counts = {"--batch": self.batches, "--seq": self.sequences, "--beams": (self.beams or 1,)}
        for flag, values in (counts | {"--threads": (self.threads,), "--rounds": (self.rounds,)}).items():
            if wrong := [value for value in values if value < 1]:
                raise ConfigurationError(f"{flag} takes numbers of at least 1; got {wrong[0]}")
        if self.new_tokens is not None and self.new_tokens < _LEAST_TOKENS:
            raise ConfigurationError(
                f"--new-tokens takes a number of at least {_LEAST_TOKENS}, as steps stand between tokens; "
                f"got {self.new_tokens}"
            )
        if not self.batches:
            raise ConfigurationError("--batch takes at least one number; got none")
        if not 0 < self.seconds < float("inf"):
            raise ConfigurationError(f"--seconds takes a number above 0; got {self.seconds}")
        _ = self.engine  # refuses what it does not know


@dataclass(frozen=True)
class Runtime:
    """One thing that is measured, in a process of its own.

    Attributes:
        name: a form, ``bare`` or ``eager``.
        module: what the process runs.
        source: artifact or bundle.
    """

    name: str
    module: str
    source: Path

    @property
    def switches(self) -> bool:
        """Whether it knows tasks; the bare backbone does not."""
        return self.name != BARE

    @property
    def adds(self) -> bool:
        """Whether a task can be added while it runs."""
        return self.name == SWITCHABLE


@dataclass(frozen=True)
class Plan:
    """All that is going to be measured.

    Attributes:
        artifact: what is measured.
        options: what the user asked for.
        runtimes: in the order of the first round.
        cells: batch sizes and sequence lengths of the latency.
        switching: cells at which tasks are switched: the smallest batch.
        mixing: the batch in which tasks mix, at a sequence length in the middle; None with one task.
        task: of all other calls.
        tasks: those that switching and mixing take turns with, ``task`` first.
        vocabulary: of the token ids.
        notes: what the reader has to know about what is not measured.
    """

    artifact: Artifact
    options: BenchOptions
    runtimes: tuple[Runtime, ...]
    cells: tuple[Cell, ...]
    switching: tuple[Cell, ...]
    mixing: Cell | None
    task: str
    tasks: tuple[str, ...]
    vocabulary: Vocabulary
    notes: tuple[str, ...]

    @property
    def new_tokens(self) -> int:
        """Tokens that every call generates for each row; 0 where tasks have heads."""
        return 0 if self.artifact.manifest.generation is None else self.options.new_tokens or _DEFAULT_TOKENS

    @property
    def beams(self) -> int:
        """Of a generation."""
        return self.options.beams or 1

    @property
    def settling_seconds(self) -> float:
        """Pause before each visit: with several threads, those of a runtime may spin on after a call."""
        return _SETTLING_SECONDS if self.options.threads > 1 else 0.0

    @property
    def start_rounds(self) -> int:
        """Times that processes are started to be timed as a whole."""
        return min(self.options.rounds, 5)

    @property
    def in_gpu_memory(self) -> bool:
        """Whether the provider keeps tensors in the memory of a GPU."""
        return _in_gpu_memory(self.options)

    @property
    def engine_module(self) -> str:
        """Python module of what runs the engines."""
        provider = PROVIDERS[self.options.provider]
        return FLAVOURS[provider.target].module if isinstance(provider, PlanProvider) else "onnxruntime"

    @property
    def times_device(self) -> bool:
        """Whether the GPU's own times can be taken: that goes through CUDA's bindings."""
        return self.in_gpu_memory and not self.new_tokens and has_cuda_bindings()

    @property
    def most_rows(self) -> int:
        """Rows of the largest batch."""
        return max(*self.options.batches, 0 if self.mixing is None else self.mixing.batch)

    @property
    def first_cell(self) -> Cell:
        """Size of the first answer of a cold process."""
        return Cell(1, min(_FIRST_ANSWER_TOKENS, self.artifact.manifest.max_length))

    def in_order(self, measured: Mapping[tuple[str, Cell], Rounds]) -> list[tuple[tuple[str, Cell], Rounds]]:
        """What was measured by runtime and cell: by length, then as planned, whatever the first round began with."""
        names = [runtime.name for runtime in self.runtimes]
        return sorted(measured.items(), key=lambda item: (item[0][1].sequence, names.index(item[0][0])))


def plan_of(path: Path | str, options: BenchOptions) -> Plan:
    """Checks the artifact in folder ``path`` and what is asked of it.

    Raises:
        ArtifactError: it is damaged, or was not made from the bundle given.
        ConfigurationError: a form it does not have, or sequences longer than it takes.
        TaskError: a task it does not have.
        BundleError: the bundle is damaged.
        MissingExtraError: PyTorch is asked for and not installed.
    """
    artifact = read_artifact(path)
    _check_generating(artifact, options)
    task, tasks = _tasks_of(artifact, options)
    sequences = _sequences_of(artifact, options)
    cells = tuple(Cell(batch, length) for batch in options.batches for length in sequences)
    several = len(tasks) > 1
    smallest = min(options.batches)
    return Plan(
        artifact=artifact,
        options=options,
        runtimes=_runtimes_of(artifact, options, tasks),
        cells=cells,
        switching=tuple(Cell(smallest, length) for length in sequences) if several else (),
        mixing=Cell(_mixed_rows(options), sorted(sequences)[len(sequences) // 2]) if several else None,
        task=task,
        tasks=tasks,
        vocabulary=_vocabulary_of(artifact),
        notes=tuple(_notes(artifact, options, tasks)),
    )


def _check_generating(artifact: Artifact, options: BenchOptions) -> None:
    given = {"--new-tokens": options.new_tokens, "--beams": options.beams}
    for flag, value in given.items():
        if value is not None and artifact.manifest.generation is None:
            raise ConfigurationError(
                f"{flag} is for tasks that are answered in text; those here have heads: leave it out"
            )


def _tasks_of(artifact: Artifact, options: BenchOptions) -> tuple[str, tuple[str, ...]]:
    names = list(artifact.manifest.tasks)
    task = names[0] if options.task is None else options.task
    artifact.task(task)
    return task, tuple(dict.fromkeys([task, *names]))[:MOST_TASKS]


def _sequences_of(artifact: Artifact, options: BenchOptions) -> tuple[int, ...]:
    longest = artifact.manifest.max_length
    if too_long := [length for length in options.sequences if length > longest]:
        raise ConfigurationError(
            f"--seq {too_long[0]}: this artifact truncates to {longest} tokens; choose at most that"
        )
    usual = options.usual_sequences if artifact.manifest.generation is None else _PROMPT_TOKENS
    default = tuple(length for length in usual if length <= longest) or (longest,)
    return tuple(dict.fromkeys(options.sequences)) or default


def _mixed_rows(options: BenchOptions) -> int:
    largest = max(options.batches)
    return largest if largest > 1 else _DEFAULT_MIXED_ROWS


def _runtimes_of(artifact: Artifact, options: BenchOptions, tasks: Sequence[str]) -> tuple[Runtime, ...]:
    chosen = [choose_form(artifact, form) for form in dict.fromkeys(options.forms) if form != BARE]
    names = chosen if options.forms else list(artifact.forms)
    if BARE in artifact.manifest.forms:
        names = [BARE, *names]
    elif BARE in options.forms:
        raise ConfigurationError(f"form {BARE!r} is not in {artifact.path}; export it with it")
    runtimes = [Runtime(name, "propetl.runtime.bench.worker", artifact.path) for name in names]
    if options.bundle is not None:
        _check_eager(artifact, options.bundle, tasks)
        runtimes.append(Runtime(EAGER, "propetl.export.eager", options.bundle))
    return tuple(runtimes)


def _check_eager(artifact: Artifact, bundle_path: Path, tasks: Sequence[str]) -> None:
    for module in ("torch", "transformers"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("propetl bench --bundle", module, "export")
    bundle = read_bundle(bundle_path)
    for task in tasks:
        bundle.pack(task)
    artifact.check_origin(bundle)


def _vocabulary_of(artifact: Artifact) -> Vocabulary:
    manifest = artifact.manifest
    size = load_tokenizer(artifact.tokenizer_path).get_vocab_size()
    return Vocabulary(size, manifest.pad_token_id, manifest.token_inputs)


def _in_gpu_memory(options: BenchOptions) -> bool:
    return PROVIDERS[options.provider].memory == "cuda"


def _notes(artifact: Artifact, options: BenchOptions, tasks: Sequence[str]) -> list[str]:
    notes = []
    generates = artifact.manifest.generation is not None
    if generates and options.bundle is None:
        notes.append("no ratios: give --bundle to measure transformers' generate beside")
    if not generates and BARE not in artifact.manifest.forms:
        notes.append(f"no ratios: the artifact has no bare backbone; export it with --form {BARE} as well")
    if len(tasks) == 1:
        notes.append("no switching or mixed batches: the artifact has one task only")
    if len(artifact.manifest.tasks) > MOST_TASKS:
        count = len(artifact.manifest.tasks)
        notes.append(f"switching and mixed batches use {MOST_TASKS} of the {count} tasks")
    if _in_gpu_memory(options) and not generates and not has_cuda_bindings():
        notes.append("no times of the GPU itself: pip install cuda-bindings")
    if options.bundle is not None and _in_gpu_memory(options):
        notes.append("PyTorch eager runs on the CPU")
    return notes
