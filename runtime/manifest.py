"""``artifact.json`` as dataclasses. The exporter writes through them, the device reads through them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from propetl import fields
from propetl.bundle.format import BackboneInfo, check_format
from propetl.errors import ArtifactError, ProPETLError
from propetl.prototypes.layout import TaskLayout
from propetl.prototypes.spec import PrototypeConfig
from propetl.task import TaskSpec

# Imported where an artifact has them: the first answer of a process waits for every import.
if TYPE_CHECKING:
    from propetl.runtime.engine_records import EngineInfo
    from propetl.runtime.generation.info import GenerationInfo
    from propetl.runtime.losses import Float16Range, Loss

FORMAT = "propetl-artifact"
VERSION = 1
MANIFEST = "artifact.json"
BACKBONE_FILE = "backbone.data"
GOLDEN_FILE = "golden.safetensors"
TOKENIZER, TOKENIZER_FILE = "tokenizer", "tokenizer/tokenizer.json"
TUNED = "tuned"
"""Folder of what :mod:`propetl.runtime.tuned` describes; the manifest does not list it, as it is made on a device."""

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "int8-static", "int4")
"""Of weights and arithmetic; :data:`propetl.runtime.report.TOLERANCES` says what each may be off by."""

OPTIONAL = ("float16",)
"""Keys that artifacts of other precisions do not have."""

MODEL = "model"
"""The part of a form that has no others."""

TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")

_MOST_DIMENSIONS = 64  # numpy's own limit

Dimension = int | str
"""A fixed size, or the name of a size that each call chooses (``batch``, ``sequence``, ``labels``)."""


@dataclass(frozen=True)
class TensorSignature:
    """One input or output of a graph.

    Attributes:
        name: as in the graph.
        dtype: numpy's name, such as ``int64``.
        shape: sizes, fixed or named.
    """

    name: str
    dtype: str
    shape: tuple[Dimension, ...]

    def __str__(self) -> str:
        return fields.printable(f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]")

    @classmethod
    def from_json(cls, value: Any, key: str = "tensor") -> "TensorSignature":
        """Inverse of ``dataclasses.asdict``; ``key`` names it in errors."""
        found = fields.record(value, key, ("name", "dtype", "shape"))
        if len(fields.items(found["shape"], f"{key}.shape")) > _MOST_DIMENSIONS:
            raise ValueError(f"{key}.shape has {len(found['shape'])} dimensions, expected {_MOST_DIMENSIONS} at most")
        shape = tuple(_size_from(size, key) for size in found["shape"])
        return cls(fields.text(found["name"], f"{key}.name"), fields.text(found["dtype"], f"{key}.dtype"), shape)


def _size_from(value: Any, key: str) -> Dimension:
    return value if isinstance(value, str) else fields.whole(value, f"a size of {key} that is no name")


def _signatures_from(value: Any, key: str) -> tuple[TensorSignature, ...]:
    return tuple(TensorSignature.from_json(item, key) for item in fields.items(value, key))


@dataclass(frozen=True)
class GraphInfo:
    """One ONNX file of the artifact.

    Attributes:
        path: inside the artifact, forward slashes.
        inputs: what it takes.
        outputs: what it gives.
    """

    path: str
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]

    @classmethod
    def from_json(cls, value: Any, key: str = "graph") -> "GraphInfo":
        """Inverse of ``dataclasses.asdict``; ``key`` names it in errors."""
        found = fields.record(value, key, ("path", "inputs", "outputs"))
        inputs = _signatures_from(found["inputs"], f"{key}.inputs")
        outputs = _signatures_from(found["outputs"], f"{key}.outputs")
        return cls(fields.text(found["path"], f"{key}.path"), inputs, outputs)


@dataclass(frozen=True)
class Stages:
    """Two steps that together do what the one graph of a form, or of each of its parts, does.

    Attributes:
        apply: packed masks and head to the weights that run; once per switch.
        run: by part, such as :data:`MODEL`: tokens and those weights to logits; once per batch, or per token.
    """

    apply: GraphInfo
    run: dict[str, GraphInfo]

    def graphs(self) -> tuple[GraphInfo, ...]:
        """All of them, in the order they run."""
        return (self.apply, *self.run.values())

    @classmethod
    def from_json(cls, value: Any, key: str = "stages") -> "Stages":
        """Inverse of ``dataclasses.asdict``; ``key`` names it in errors."""
        found = fields.record(value, key, ("apply", "run"))
        apply = GraphInfo.from_json(found["apply"], f"{key}.apply")
        return cls(apply, fields.each(GraphInfo.from_json, found["run"], f"{key}.run"))


@dataclass(frozen=True)
class FormInfo:
    """The graphs of one form: ``graph`` for any task, or ``graphs`` by task; of a backbone that generates, ``parts``.

    Attributes:
        graph: of a form that has one graph for all tasks.
        graphs: by task, of a form that has one for each.
        task_ids: rows of the bank by task.
        stages: the same function in two steps, so that masks are applied once per switch; None where there are none.
        parts: by name, such as ``encoder``: the form of each of the graphs by which a backbone generates.
    """

    graph: GraphInfo | None = None
    graphs: dict[str, GraphInfo] = field(default_factory=dict)
    task_ids: dict[str, int] = field(default_factory=dict)
    stages: Stages | None = None
    parts: dict[str, "FormInfo"] = field(default_factory=dict)

    def all_graphs(self) -> dict[str | None, GraphInfo]:
        """Every graph by the task it is bound to, None for one that serves any task; those of parts are not here."""
        shared: dict[str | None, GraphInfo] = {} if self.graph is None else {None: self.graph}
        return shared | dict(self.graphs)

    def each_part(self) -> dict[str, "FormInfo"]:
        """The parts by name; a form without parts is its own only one, :data:`MODEL`."""
        return self.parts or {MODEL: self}

    def paths(self) -> set[str]:
        """Files of all graphs, those of stages and parts among them."""
        stages = () if self.stages is None else self.stages.graphs()
        mine = {graph.path for graph in (*self.all_graphs().values(), *stages)}
        return mine.union(*(part.paths() for part in self.parts.values()))

    def own_tasks(self) -> tuple[str, ...]:
        """Tasks that have graphs of their own."""
        return tuple(next(iter(self.each_part().values())).graphs)

    def graphs_for(self, task: str | None) -> dict[str, GraphInfo]:
        """The graphs of one task by part; None for those that serve any task.

        Raises:
            ArtifactError: there is none.
        """
        found = {name: part.all_graphs().get(task) for name, part in self.each_part().items()}
        graphs = {name: graph for name, graph in found.items() if graph is not None}
        if len(graphs) < len(found):
            raise ArtifactError(f"no graph {'for all tasks' if task is None else f'of task {task}'}; export it again")
        return graphs

    def to_json(self) -> dict[str, Any]:
        """As written: keys that do not apply are left out."""
        parts = {name: part.to_json() for name, part in self.parts.items()}
        return {key: value for key, value in (asdict(self) | {"parts": parts}).items() if value}

    @classmethod
    def from_json(cls, value: Any, key: str = "form") -> "FormInfo":
        """Inverse of :meth:`to_json`; ``key`` names it in errors."""
        found = fields.record(value, key, (), cls.__dataclass_fields__)
        return cls(
            GraphInfo.from_json(found["graph"], f"{key}.graph") if "graph" in found else None,
            fields.each(GraphInfo.from_json, found.get("graphs", {}), f"{key}.graphs"),
            fields.each(fields.whole, found.get("task_ids", {}), f"{key}.task_ids"),
            Stages.from_json(found["stages"], f"{key}.stages") if "stages" in found else None,
            fields.each(FormInfo.from_json, found.get("parts", {}), f"{key}.parts"),
        )


@dataclass(frozen=True)
class ArtifactTask:
    """One task of an artifact.

    Attributes:
        info: problem, labels, columns, metrics, scores of training.
        pack: path of its task pack inside the artifact.
    """

    info: TaskSpec
    pack: str


@dataclass(frozen=True)
class Manifest:
    """``artifact.json``.

    Attributes:
        operators: which the graphs use; a key of ``propetl.runtime.operators.OPERATOR_SETS``.
        precision: of weights and arithmetic; one of :data:`PRECISIONS`.
        opset: ONNX operator set of the graphs.
        max_length: tokens to which texts are truncated, as in training.
        pad_token_id: token that shorter rows of a batch are filled with.
        head: ``linear`` or ``own``.
        bundle_sha256: of the ``bundle.json`` that was exported.
        prototype_sha256: of its ``prototype.safetensors``; task packs name it.
        backbone: which backbone this is.
        prototype: the method.
        tasks: by name.
        forms: those exported, by name.
        tools: versions of what made the artifact.
        files: size and SHA-256 of every file but this one.
        generation: how the backbone generates; None where tasks have heads.
        golden: path of the golden inputs and outputs.
        engines: plans that were built ahead; empty for an artifact of graphs alone.
        losses: what quantising cost each task and form; empty at fp32.
        float16: what was measured before the graphs were brought to float16; None at other precisions.
    """

    operators: str
    precision: str
    opset: int
    max_length: int
    pad_token_id: int
    head: str
    bundle_sha256: str
    prototype_sha256: str
    backbone: BackboneInfo
    prototype: PrototypeConfig
    tasks: dict[str, ArtifactTask]
    forms: dict[str, FormInfo]
    tools: dict[str, str]
    files: dict[str, dict[str, Any]]
    generation: "GenerationInfo | None" = None
    golden: str = GOLDEN_FILE
    engines: "tuple[EngineInfo, ...]" = ()
    losses: "tuple[Loss, ...]" = ()
    float16: "Float16Range | None" = None

    def __post_init__(self) -> None:
        self.backbone.layout(self.prototype)  # refuses a method that this backbone cannot have

    @cached_property
    def layout(self) -> TaskLayout:
        """Names and shapes of every tensor that the method needs."""
        return self.backbone.layout(self.prototype)

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Axes of the logits of graphs for any task before their width: every token's, if one of the tasks tags."""
        return max((task.info.kind.axes for task in self.tasks.values()), key=len, default=("batch",))

    @cached_property
    def head_of_any(self) -> str:
        """Kind of the heads that graphs for any task take."""
        return common_head([task.info for task in self.tasks.values()], self.head) or self.head

    @cached_property
    def token_inputs(self) -> tuple[str, ...]:
        """Token inputs that the graphs take; ``token_type_ids`` only where the backbone does."""
        parts = [part for form in self.forms.values() for part in form.each_part().values()]
        graphs = [graph for part in parts for graph in part.all_graphs().values()]
        taken = {item.name for graph in graphs for item in graph.inputs}
        return tuple(name for name in TOKEN_INPUTS if name in taken)

    def to_json(self) -> dict[str, Any]:
        """As written to ``artifact.json``."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in OPTIONAL}
        return (
            {"format": FORMAT, "version": VERSION}
            | plain
            | {
                "backbone": asdict(self.backbone),
                "prototype": self.prototype.to_json(),
                "tasks": {name: task.info.to_json() | {"pack": task.pack} for name, task in self.tasks.items()},
                "forms": {name: form.to_json() for name, form in self.forms.items()},
                "engines": [engine.to_json() for engine in self.engines],
                "generation": None if self.generation is None else self.generation.to_json(),
                "losses": [asdict(loss) for loss in self.losses],
            }
            | ({} if self.float16 is None else {"float16": asdict(self.float16)})
        )

    @classmethod
    def from_json(cls, value: Any, source: str) -> "Manifest":
        """Parses what ``artifact.json`` holds; ``source`` names the file in errors.

        Raises:
            ArtifactError: another format, an unknown version, a key that is missing or of the wrong kind.
        """
        from propetl.runtime.manifest_keys import values_of  # here: it knows the classes of this module

        check_format(value, FORMAT, VERSION, source, ArtifactError)
        try:
            return cls(**values_of(value))
        except ProPETLError as error:
            raise ArtifactError(f"{source}: {error}") from error
        except ValueError as error:
            raise ArtifactError(f"{source}: not a valid manifest ({error}); restore it from its source") from error


def common_head(tasks: Sequence[TaskSpec], head: str) -> str | None:
    """The kind of head that all ``tasks`` have in a bundle of ``head``; None where there are two kinds, or no tasks."""
    kinds = {task.head_kind(head) for task in tasks}
    return kinds.pop() if len(kinds) == 1 else None
