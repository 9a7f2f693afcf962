"""Runs real rows through every graph of a float32 artifact, as sessions do, and notes how large values get."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.export.float_range import largest
from propetl.export.peaks import MeasuredGraph
from propetl.problems.text import text_of
from propetl.runtime.artifact import Artifact
from propetl.runtime.batching import Feeds
from propetl.runtime.generation.cached_steps import EncoderDecoderSteps
from propetl.runtime.generation.decoder_steps import DecoderSteps
from propetl.runtime.generation.generate import generate
from propetl.runtime.generation.options import options_for
from propetl.runtime.generation.task_inputs import TaskInputs
from propetl.runtime.golden import MOST_TOKENS
from propetl.runtime.manifest import MODEL, GraphInfo
from propetl.runtime.signatures import BANK, SWITCHABLE, TASK_ID

Arrays = dict[str, NDArray[Any]]
Parts = Mapping[str, GraphInfo]


@dataclass(frozen=True)
class RowsThroughGraphs:
    """Every form of an artifact, whose rows it is given.

    Attributes:
        artifact: in float32; it may lack files that are not graphs, packs or tokenizer.
        weights: folder of the shared weights.
        batches: token inputs int64 ``[rows, longest]`` of each task.
    """

    artifact: Artifact
    weights: Path
    batches: Mapping[str, Iterable[Feeds]]
    _graphs: dict[str, MeasuredGraph] = field(default_factory=dict, init=False)

    @cached_property
    def peaks(self) -> dict[str, dict[str, float]]:
        """By path of the graph and name of the value, its largest size.

        Graphs of a folded form that have values of one name have one size for it, that of the largest: they share
        their weights, which are then of one type.
        """
        for parts, tasks in self._ways():
            for task, extra in tasks:
                self._run(parts, task, extra)
        return {path: graph.peaks | self._of_siblings(path) for path, graph in self._graphs.items()}

    def _ways(self) -> Iterator[tuple[Parts, Iterator[tuple[str, Arrays]]]]:
        """The graphs that run together, with their tasks and what these add to the text."""
        forms, tasks = self.artifact.manifest.forms, self.artifact.manifest.tasks
        for form, info in forms.items():
            if info.own_tasks():
                yield from ((info.graphs_for(task), iter([(task, Arrays())])) for task in info.own_tasks())
            elif any(part.all_graphs() for part in info.each_part().values()):  # and not stages alone
                yield info.graphs_for(None), ((task, self._extra(form, task)) for task in tasks)
        for stages in [info.stages for info in forms.values() if info.stages is not None][:1]:  # forms share them
            yield stages.run, ((task, self._measured(stages.apply)(self._rows(task))) for task in tasks)

    def _extra(self, form: str, task: str) -> Arrays:
        """Inputs that one graph for all tasks takes for ``task``; a number for every row of a batch."""
        if form == SWITCHABLE:
            return dict(self.artifact.pack(task).tensors())
        return {TASK_ID: np.array(self.artifact.manifest.forms[BANK].task_ids[task])} if form == BANK else {}

    def _rows(self, task: str) -> Arrays:
        return {name: tensor[None] for name, tensor in self.artifact.pack(task).tensors().items()}

    def _run(self, parts: Parts, task: str, extra: Arrays) -> None:
        for batch in self.batches[task]:
            rows = len(batch["input_ids"])
            by_row = {name: np.full(rows, value) for name, value in extra.items() if name == TASK_ID}
            alike = {name: value for name, value in extra.items() if name != TASK_ID}
            if self.artifact.manifest.generation is None:
                self._measured(parts[MODEL])({**batch, **by_row, **alike})
            else:
                taken = {part: frozenset(item.name for item in graph.inputs) for part, graph in parts.items()}
                self._generate(parts, task, batch, TaskInputs(taken, by_row, alike))

    def _generate(self, parts: Parts, task: str, batch: Feeds, inputs: TaskInputs) -> None:
        generation, text = self.artifact.manifest.generation, text_of(self.artifact.task(task).info)
        assert generation is not None
        engines: dict[str, Any] = {part: _MeasuredEngine(self._measured(graph)) for part, graph in parts.items()}
        kind = DecoderSteps if generation.kind == "decoder" else EncoderDecoderSteps
        options = options_for(text, {"max_new_tokens": min(text.max_target_length, MOST_TOKENS)})
        generate(kind(engines, generation, batch, inputs), options, generation.special)

    def _measured(self, graph: GraphInfo) -> MeasuredGraph:
        if graph.path not in self._graphs:
            self._graphs[graph.path] = MeasuredGraph(self.artifact.path / graph.path, self.weights)
        return self._graphs[graph.path]

    def _of_siblings(self, path: str) -> dict[str, float]:
        """The largest sizes in all graphs that are this one for other tasks."""
        parts = [part for form in self.artifact.manifest.forms.values() for part in form.each_part().values()]
        alike = [{graph.path for graph in part.graphs.values()} for part in parts]
        return largest(self._graphs[other].peaks for paths in alike if path in paths for other in paths)


class _MeasuredEngine:
    """A measured graph as the steps of a generation call it: tensors are arrays, kept where they are."""

    def __init__(self, graph: MeasuredGraph) -> None:
        self._graph = graph

    def prepare(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """As they are."""
        return tensors

    def call(self, feeds: Mapping[str, NDArray[Any]], kept: Mapping[str, NDArray[Any]]) -> Arrays:
        """All outputs by name."""
        return self._graph({**feeds, **kept})

    def pick(self, kept: Mapping[str, NDArray[Any]], rows: NDArray[np.int64]) -> Arrays:
        """Rows of kept tensors."""
        return {name: value[rows] for name, value in kept.items()}

    def array(self, kept: NDArray[Any]) -> NDArray[Any]:
        """As it is."""
        return kept
