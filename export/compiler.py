"""The compiler: trace, bind, optimise, for each form of one bundle."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import onnx_ir as ir

import propetl
from propetl.bundle.format import LINEAR
from propetl.bundle.pack import TaskPack
from propetl.bundle.reader import Bundle
from propetl.export.golden import text_inputs_of
from propetl.export.graphs import (
    apply_passes,
    bank_passes,
    folded_passes,
    switchable_passes,
    text_passes,
    trace_passes,
)
from propetl.export.kept_traces import KeptTraces
from propetl.export.layouts import TOKEN, shared_place
from propetl.export.passes import PassRecord, run_passes
from propetl.export.passes.describe_model import DescribeModel
from propetl.export.passes.refuse_negatives import RefuseNegatives
from propetl.export.passes.remove_nan_guard import RemoveNanGuard
from propetl.export.passes.separate_rows import SeparateRows
from propetl.export.passes.share_weights import ShareWeights
from propetl.export.program import BareProgram, Program, RowsProgram
from propetl.export.tensorrt_engines.refit import TASK_WEIGHTS, task_weights_of
from propetl.export.trace import Trace, trace
from propetl.export.weight_store import WeightStore
from propetl.model import ProPETLModel
from propetl.problems import Where
from propetl.runtime.manifest import MODEL, common_head
from propetl.runtime.signatures import (
    BANK,
    BARE,
    BATCH,
    FOLDED,
    SEQUENCE,
    STAGE_APPLY,
    STAGE_RUN,
    STAGES,
    SWITCHABLE,
    task_tensors,
)
from propetl.task import TaskSpec

Report = Callable[[str], None]


@dataclass(frozen=True)
class Compiled:
    """One graph, ready to be written.

    Attributes:
        form: which form it is of; ``stages`` for the two graphs that switchable and bank share.
        part: the task it is bound to, or the stage that it is; None for the one graph of a form.
        model: the graph.
        step: which of the graphs of a backbone that generates.
        file: its name in the folder of form and task.
    """

    form: str
    part: str | None
    model: ir.Model
    step: str = MODEL
    file: str = "model.onnx"

    @property
    def path(self) -> str:
        """Where it stands in the artifact."""
        return f"{self.form}/{self.part}/{self.file}" if self.part else f"{self.form}/{self.file}"


@dataclass
class Compiler:
    """Compiles one bundle; each program is traced once, when first needed.

    Attributes:
        model: the trained model.
        bundle: what it was read from.
        tasks: tasks to compile, in the order of the bank.
        opset: of the standard operators.
        operators: which the graphs may use.
        precision: of the weights.
        store: receives the shared weights.
        kept: traces of earlier exports; None to trace in any case.
        report: called with a line about each step.
    """

    model: ProPETLModel
    bundle: Bundle
    tasks: tuple[str, ...]
    opset: int
    operators: str
    precision: str
    store: WeightStore
    kept: KeptTraces | None = None
    report: Report = field(default=lambda line: None)
    _singles: dict[Where, Trace] = field(default_factory=dict, init=False, repr=False)

    def compile(self, form: str) -> Iterator[Compiled]:
        """The graphs of ``form``, one after the other."""
        if form == FOLDED:
            for pack in self._packs:
                single = self._single(pack.info)
                yield self._bind(FOLDED, pack.task, single, folded_passes(pack, single, self.precision), [pack])
        elif form == SWITCHABLE:
            yield self._bind(SWITCHABLE, None, self._rows, switchable_passes(self._rows), self._packs)
        elif form == BANK:
            yield self._bind(BANK, None, self._rows, bank_passes(self._packs, self._rows), self._packs)
        elif form == BARE:
            passes = folded_passes(self._packs[0], self._backbone, self.precision)
            yield self._bind(BARE, None, self._backbone, passes, [])

    def stages(self) -> Iterator[Compiled]:
        """The two graphs by which a session applies masks once per switch, and mixes tasks in a batch."""
        yield self._bind(STAGES, STAGE_APPLY, self._rows, apply_passes(self._rows), self._packs)
        yield self._bind(STAGES, STAGE_RUN, self._rows, text_passes(self._rows), self._packs)

    @cached_property
    def _packs(self) -> list[TaskPack]:
        return [self.bundle.pack(task) for task in self.tasks]

    @property
    def _at_of_any(self) -> Where:
        """Where graphs for any task answer."""
        return shared_place(pack.info for pack in self._packs)

    def _single(self, info: TaskSpec) -> Trace:
        at = shared_place([info])
        if at not in self._singles:
            what = f"one task per batch{', answered at every token' if at == TOKEN else ''}"
            self._singles[at] = self._trace(Program(self.model, at=at), what, info.head_kind(self.model.head_kind))
        return self._singles[at]

    @cached_property
    def _rows(self) -> Trace:
        head = common_head([pack.info for pack in self._packs], self.model.head_kind)
        assert head is not None  # the writer has refused tasks whose heads are of two kinds
        return self._trace(RowsProgram(self.model, at=self._at_of_any), "one task per row", head)

    @cached_property
    def _backbone(self) -> Trace:
        return self._trace(BareProgram(self.model, at=self._at_of_any), "backbone alone", LINEAR)

    def _trace(self, program: Program | BareProgram, what: str, head: str) -> Trace:
        self.report(f"tracing: {what}")
        tensors = task_tensors(self.model.layout, head)
        if isinstance(program, BareProgram):
            tensors = tuple(tensor for tensor in tensors if tensor.name in ("head.weight", "head.bias"))
        traced = trace(program, text_inputs_of(self.model), tensors, self.opset, self.kept)
        return self._prepared(traced, rows=isinstance(program, RowsProgram))

    def _prepared(self, traced: Trace, rows: bool, padded_in_front: bool = False) -> Trace:
        """``traced`` after the passes that come before binding, and so serve every form and task.

        Where prompts are ``padded_in_front``, padding attends to nothing, and the guard against that has to stay.
        """
        # The trace of rows serves graphs in which the task's tensors stay inputs; in those of the others they never do.
        always_bound = () if rows else (tensor.name for tensor in traced.task_inputs)
        share = ShareWeights(self.store, frozenset(always_bound))
        separate = [SeparateRows(traced.text_inputs)] if rows else []
        encoder = self.model.backbone.family.kind == "encoder"
        passes = trace_passes(self.operators, self.precision, masks_stay=rows, encoder=encoder)
        if padded_in_front:
            passes = [one for one in passes if not isinstance(one, RemoveNanGuard)]
        self._log(run_passes(traced.model, [*passes, share, *separate]))
        # Quantising changes types and values without saying so; sizes other than the text's are the task's.
        return replace(traced, true_sizes=frozenset((BATCH, SEQUENCE) if self.precision == "fp32" else ()))

    def _bind(
        self,
        form: str,
        part: str | None,
        traced: Trace,
        passes: list[ir.passes.PassBase],
        packs: list[TaskPack],
    ) -> Compiled:
        self.report(f"binding: {form}{' ' + part if part else ''}")
        model = traced.model.clone()
        # Stages are run by sessions alone, which look at ids themselves.
        self._log(run_passes(model, [*passes, *([] if form == STAGES else [RefuseNegatives()])]))
        metadata = self._metadata(form, packs)
        if form == FOLDED:
            metadata[TASK_WEIGHTS] = task_weights_of(model.graph, tuple(traced.model.graph.initializers))
        self._log(run_passes(model, [DescribeModel(propetl.__version__, metadata)]))
        return Compiled(form, part, model)

    def _metadata(self, form: str, packs: list[TaskPack]) -> dict[str, str]:
        labels = {pack.task: list(pack.info.labels) for pack in packs}
        return {
            "propetl.form": form,
            "propetl.bundle_sha256": self.bundle.sha256,
            "propetl.tasks": json.dumps(list(labels), ensure_ascii=False),
            "propetl.labels": json.dumps(labels, ensure_ascii=False),
        }

    def _log(self, records: tuple[PassRecord, ...]) -> None:
        for record in records:
            self.report(f"  {record}")
