"""What each form's graphs take and give: one table, and the check against it.

Named sizes are ``batch``, ``sequence`` and ``labels``; the rest are fixed. Every form takes input_ids,
attention_mask (and token_type_ids where the backbone does): int64 [batch, sequence]. Besides:

    form         takes                                            gives logits float32
    folded       nothing                                          [batch, labels of the task]
    switchable   the task's tensors, named as in its pack         [batch, "labels"]
    bank         task_id: int64 [batch]                           [batch, labels of the widest task]
    bare         nothing; has no prototype                        [batch, any]

A folded graph of a task that tags gives logits at every token, [batch, sequence, labels]; so do the other forms of an
artifact in which any task tags.

Switchable and bank also have two stages, which a session runs instead of the one graph. ``rows`` is as long as the
batch, or 1 where one task serves all rows:

    stage        takes                                            gives
    apply        the task's tensors with a leading axis of rows   float weights, any names, [rows, ...]
    run          what apply gives                                 logits [batch, "labels"]

A backbone that generates has a graph for each of its parts (``propetl.runtime.generation.parts``), which take
besides theirs what their form adds: nothing, the task's tensors, or task_id. It has no form bare. Of its stages, one
graph applies masks for all parts, and a graph for each part takes what it needs of that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from propetl.bundle.format import HEADS, head_shapes
from propetl.bundle.pack import HEAD, LANGUAGE_MASK, MASK, WEIGHT
from propetl.errors import ArtifactError
from propetl.prototypes.layout import TaskLayout
from propetl.runtime.manifest import (
    MODEL,
    TOKEN_INPUTS,
    Dimension,
    FormInfo,
    GraphInfo,
    Manifest,
    Stages,
    TensorSignature,
)

if TYPE_CHECKING:
    from propetl.runtime.generation.parts import Part

LOGITS = "logits"
TASK_ID = "task_id"
FOLDED, SWITCHABLE, BANK, BARE = "folded", "switchable", "bank", "bare"
STAGES, STAGE_APPLY, STAGE_RUN = "stages", "apply", "run"

BATCH, SEQUENCE, LABELS, ROWS = "batch", "sequence", "labels", "rows"

TOKEN_SHAPE: tuple[Dimension, ...] = (BATCH, SEQUENCE)


@dataclass(frozen=True)
class FormRule:
    """Invariants of one form.

    Attributes:
        graph_per_task: one graph for each task, or one for all.
        extra_inputs: what the graphs take besides tokens.
        width: of the logits.
        staged: whether it may have two stages.
    """

    graph_per_task: bool
    extra_inputs: Literal["none", "task tensors", "task_id"]
    width: Literal["task", "labels", "widest", "any"]
    staged: bool = False


FORM_RULES = {
    FOLDED: FormRule(graph_per_task=True, extra_inputs="none", width="task"),
    SWITCHABLE: FormRule(graph_per_task=False, extra_inputs="task tensors", width="labels", staged=True),
    BANK: FormRule(graph_per_task=False, extra_inputs="task_id", width="widest", staged=True),
    BARE: FormRule(graph_per_task=False, extra_inputs="none", width="any"),
}


def expected_parts(manifest: Manifest) -> "dict[str, Part | None]":
    """The graphs that each form has, by name; None for that of a classifier."""
    if manifest.generation is None:
        return {MODEL: None}
    from propetl.runtime.generation.parts import parts_of  # here: few artifacts have parts

    return dict(parts_of(manifest.generation, manifest.backbone.hidden_size))


def expected_inputs(form: str, manifest: Manifest, part: "Part | None" = None) -> tuple[TensorSignature, ...]:
    """Inputs that a graph of ``form`` has."""
    inputs = _token_signatures(manifest) if part is None else part.inputs
    extra = FORM_RULES[form].extra_inputs
    if extra == "task tensors":
        return inputs + task_tensors(manifest.layout, manifest.head_of_any if part is None else None)
    return (*inputs, TensorSignature(TASK_ID, "int64", ("batch",))) if extra == "task_id" else inputs


def _token_signatures(manifest: Manifest) -> tuple[TensorSignature, ...]:
    return tuple(TensorSignature(name, "int64", TOKEN_SHAPE) for name in manifest.token_inputs)


def task_tensors(layout: TaskLayout, head: str | None) -> tuple[TensorSignature, ...]:
    """One tensor for each of a task pack, under the name it has there, in a fixed order.

    The number of labels is a free dimension: a task trained later may have more. ``head`` is None for tasks that
    are answered in text, which have none.
    """
    masks = {MASK + name: shape for name, shape in layout.mask_shapes().items()}
    masks |= {LANGUAGE_MASK + name: shape for name, shape in layout.language_mask_shapes().items()}
    weights = {WEIGHT + name: shape for name, shape in layout.weight_shapes().items()}
    of_head = {} if head is None else head_shapes(head, layout.hidden_size, LABELS)
    heads = {HEAD + name: shape for name, shape in of_head.items()}
    packed = [TensorSignature(name, "uint8", shape) for name, shape in masks.items()]
    return (*packed, *(TensorSignature(name, "float32", shape) for name, shape in (weights | heads).items()))


def expected_width(form: str, manifest: Manifest, task: str | None) -> Dimension | None:
    """Width of the logits of a graph of ``form``; None where any fixed width will do."""
    width = FORM_RULES[form].width
    if width == "task" and task is not None:
        return manifest.tasks[task].info.outputs
    if width == "widest":
        return max(manifest.tasks[name].info.outputs for name in manifest.forms[form].task_ids)
    return "labels" if width == "labels" else None


def expected_logits(form: str, manifest: Manifest, task: str | None, width: Dimension) -> TensorSignature:
    """The output of a graph of ``form`` whose logits are ``width`` wide."""
    info = manifest.tasks[task].info if FORM_RULES[form].graph_per_task and task is not None else None
    axes = manifest.axes if info is None else info.kind.axes
    return TensorSignature(LOGITS, "float32", (*axes, width))


def check_graph_signature(
    form: str, graph: GraphInfo, manifest: Manifest, task: str | None = None, part: "Part | None" = None
) -> None:
    """Refuses a graph whose inputs or outputs are not those that its form has.

    Raises:
        ArtifactError: naming graph and tensor.
    """
    _check_inputs(form, graph, expected_inputs(form, manifest, part))
    if part is None:
        width = expected_width(form, manifest, task)
        fixed = _fixed_width(graph) if width is None else width
        _check_logits(form, graph, expected_logits(form, manifest, task, fixed))
    else:
        _check_outputs(form, graph, part)


def _check_inputs(form: str, graph: GraphInfo, inputs: Sequence[TensorSignature]) -> None:
    found = {item.name: item for item in graph.inputs}
    expected = {item.name: item for item in inputs}
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            wanted = expected.get(name, f"no {name}")
            raise _mismatch(form, graph, "input", str(wanted), str(found.get(name, "none")))


def _check_outputs(form: str, graph: GraphInfo, part: "Part") -> None:
    if graph.outputs != part.outputs:
        raise _mismatch(form, graph, "output", "; ".join(map(str, part.outputs)), "; ".join(map(str, graph.outputs)))


def _fixed_width(graph: GraphInfo) -> Dimension:
    """That of its one output, whatever it is; where there is none, words for an error."""
    shape = graph.outputs[0].shape if len(graph.outputs) == 1 else ()
    return shape[-1] if shape and isinstance(shape[-1], int) else "any fixed width"


def _check_logits(form: str, graph: GraphInfo, expected: TensorSignature) -> None:
    if graph.outputs != (expected,):
        raise _mismatch(form, graph, "output", str(expected), "; ".join(map(str, graph.outputs)) or "none")


def _mismatch(form: str, graph: GraphInfo, kind: str, expected: str, found: str) -> ArtifactError:
    return ArtifactError(f"{graph.path}: a {form} graph has {kind} {expected}; found {found}; export the bundle again")


def check_forms(manifest: Manifest) -> None:
    """Checks every form of ``manifest`` against :data:`FORM_RULES`.

    Raises:
        ArtifactError: an unknown form or head, a form that lacks its graphs, or a graph that breaks its form.
    """
    if manifest.head not in HEADS:
        raise ArtifactError(f"head is one of {', '.join(HEADS)}; found {manifest.head!r}")
    if missing := [name for name in TOKEN_INPUTS[:2] if name not in manifest.token_inputs]:
        raise ArtifactError(f"no graph takes {missing[0]}; export the bundle again")
    for form, info in manifest.forms.items():
        _check_form(form, info, manifest)


def _check_form(form: str, info: FormInfo, manifest: Manifest) -> None:
    rule = FORM_RULES.get(form)
    if rule is None:
        known = ", ".join(FORM_RULES)
        raise ArtifactError(f"form {form!r} is not known here (known: {known}); upgrade propetl")
    if rule.width == "any" and manifest.generation is not None:
        raise ArtifactError(f"form {form} is not one of a backbone that generates; export the bundle again")
    parts = expected_parts(manifest)
    if info.each_part().keys() != parts.keys():
        found = ", ".join(info.each_part())
        raise ArtifactError(f"form {form} has the parts {', '.join(parts)}; found {found}; export the bundle again")
    if rule.extra_inputs != "none" and manifest.prototype.specification.trains_backbone:
        raise ArtifactError(f"form {form} cannot hold fully trained tasks, only folded can; export it again")
    for graphs in info.each_part().values():
        _check_number(form, graphs, rule)
    _check_task_ids(form, info, rule)
    for name, part in parts.items():
        _check_part(form, info, info.each_part()[name], manifest, part)
    if info.stages is not None:
        _check_stages(form, info.stages, parts, manifest)


def _check_part(form: str, info: FormInfo, graphs: FormInfo, manifest: Manifest, part: "Part | None") -> None:
    if set(graphs.graphs) != set(info.own_tasks()):
        raise ArtifactError(f"form {form}: its parts are of different tasks; export the bundle again")
    if unknown := (graphs.graphs.keys() | info.task_ids.keys()) - manifest.tasks.keys():
        raise ArtifactError(f"form {form} has task {min(unknown)!r}, which is not listed; export it again")
    for task, graph in graphs.all_graphs().items():
        check_graph_signature(form, graph, manifest, task, part)


def _check_number(form: str, graphs: FormInfo, rule: FormRule) -> None:
    if rule.graph_per_task != bool(graphs.graphs) or rule.graph_per_task == bool(graphs.graph):
        wanted = "one graph for each task" if rule.graph_per_task else "one graph for all tasks"
        raise ArtifactError(f"form {form} has {wanted}; found otherwise; export the bundle again")


def _check_stages(form: str, stages: Stages, parts: "Mapping[str, Part | None]", manifest: Manifest) -> None:
    """Holds the two stages against the form and against each other."""
    if not FORM_RULES[form].staged:
        raise ArtifactError(f"form {form} has no stages; found {stages.apply.path}; export the bundle again")
    if stages.run.keys() != parts.keys():
        wanted, found = ", ".join(parts), ", ".join(stages.run)
        raise ArtifactError(f"form {form}: its stages run {wanted}; found {found}; export the bundle again")
    tensors = task_tensors(manifest.layout, None if manifest.generation else manifest.head_of_any)
    rows = tuple(TensorSignature(item.name, item.dtype, (ROWS, *item.shape)) for item in tensors)
    _check_inputs(STAGE_APPLY, stages.apply, rows)
    for item in stages.apply.outputs:
        if item.dtype != "float32" or item.shape[:1] != (ROWS,):
            raise _mismatch(STAGE_APPLY, stages.apply, "output", "float32 with a leading axis of rows", str(item))
    for name, part in parts.items():
        _check_run(stages.run[name], stages.apply.outputs, manifest, part)


def _check_run(graph: GraphInfo, applied: Sequence[TensorSignature], manifest: Manifest, part: "Part | None") -> None:
    """A graph that takes what is applied: all of it, or of a part of several what it needs."""
    if part is None:
        _check_inputs(STAGE_RUN, graph, (*_token_signatures(manifest), *applied))
        _check_logits(STAGE_RUN, graph, expected_logits(SWITCHABLE, manifest, None, LABELS))
        return
    taken = {item.name for item in graph.inputs}
    _check_inputs(STAGE_RUN, graph, (*part.inputs, *(item for item in applied if item.name in taken)))
    _check_outputs(STAGE_RUN, graph, part)


def _check_task_ids(form: str, info: FormInfo, rule: FormRule) -> None:
    rows = sorted(info.task_ids.values())
    expected = list(range(len(rows))) if rule.extra_inputs == "task_id" else []
    if rows != expected or (rule.extra_inputs == "task_id" and not rows):
        raise ArtifactError(f"form {form}: task_ids are {rows}, expected 0, 1, 2, …; export the bundle again")
