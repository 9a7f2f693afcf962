"""The compiler of backbones that generate: every form has a graph for each of their parts."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from propetl.export.compiler import Compiled, Compiler
from propetl.export.generation_program import PartProgram
from propetl.export.graphs import apply_passes, bank_passes, folded_passes, switchable_passes, text_passes
from propetl.export.joined_stage import joined_stage
from propetl.export.passes import run_passes
from propetl.export.trace import Trace, trace_part
from propetl.model import ProPETLModel
from propetl.runtime.generation.info import GenerationInfo
from propetl.runtime.generation.options import SpecialTokens
from propetl.runtime.generation.parts import Part, parts_of
from propetl.runtime.manifest import MODEL
from propetl.runtime.signatures import BANK, FOLDED, STAGE_APPLY, STAGE_RUN, STAGES, SWITCHABLE, task_tensors


@dataclass
class GenerationCompiler(Compiler):
    """Compiles one bundle; each part is traced once for a task per batch, and once for a task per row."""

    _traces: dict[tuple[str, bool], Trace] = field(default_factory=dict, init=False)

    def compile(self, form: str) -> Iterator[Compiled]:
        """The graphs of ``form``, one after the other, task by task."""
        for part in self._parts.values():
            for compiled in self._graphs(form, part):
                yield replace(compiled, step=part.name, file=part.file)

    def stages(self) -> Iterator[Compiled]:
        """One graph that applies masks for all parts, and a graph for each part that takes what it gives.

        None where a task has nothing to apply, as its prototype has masks of layers only.
        """
        tensors = task_tensors(self.model.layout, None)
        if not tensors:
            return
        traces = {name: self._trace_part(part, rows=True) for name, part in self._parts.items()}
        halves = {name: traced.model.clone() for name, traced in traces.items()}
        for name, half in halves.items():
            self._log(run_passes(half, apply_passes(traces[name])))
        joined = joined_stage(halves)
        applied = Trace(joined.model, (), tensors, self.opset)
        yield self._bind(STAGES, STAGE_APPLY, applied, [], self._packs)
        for name, traced in traces.items():
            run = self._bind(STAGES, STAGE_RUN, traced, text_passes(traced, joined.names[name]), self._packs)
            yield replace(run, step=name, file=self._parts[name].file)

    @cached_property
    def _parts(self) -> dict[str, Part]:
        return parts_of(generation_info(self.model), self.model.layout.hidden_size)

    def _graphs(self, form: str, part: Part) -> Iterator[Compiled]:
        if form == FOLDED:
            traced = self._trace_part(part, rows=False)
            for pack in self._packs:
                yield self._bind(FOLDED, pack.task, traced, folded_passes(pack, traced, self.precision), [pack])
        elif form == SWITCHABLE:
            traced = self._trace_part(part, rows=True)
            yield self._bind(SWITCHABLE, None, traced, switchable_passes(traced), self._packs)
        elif form == BANK:
            traced = self._trace_part(part, rows=True)
            yield self._bind(BANK, None, traced, bank_passes(self._packs, traced), self._packs)

    def _trace_part(self, part: Part, rows: bool) -> Trace:
        key = (part.name, rows)
        if key not in self._traces:
            self.report(f"tracing: {part.name}, one task per {'row' if rows else 'batch'}")
            tensors = task_tensors(self.model.layout, None)
            traced = trace_part(PartProgram(self.model, part.name, rows), part, tensors, self.opset, self.kept)
            self._traces[key] = self._prepared(traced, rows, padded_in_front=part.name == MODEL)
        return self._traces[key]


def _cache_heads(config: Any) -> int:
    """Heads of the decoder's keys and values, under the names that families have for them."""
    names = ("num_key_value_heads", "decoder_attention_heads", "num_attention_heads")
    return int(next(getattr(config, name) for name in names if getattr(config, name, None)))


def generation_info(model: ProPETLModel) -> GenerationInfo:
    """What a device has to know of the backbone of ``model``."""
    config, generation = model.network.config, model.network.generation_config
    info, ends = model.backbone.info, generation.eos_token_id
    heads = _cache_heads(config)
    width = info.key_value_size or info.query_size or info.hidden_size
    return GenerationInfo(
        kind="encoder-decoder" if info.decoder_layers else "decoder",
        vocabulary=model.network.get_output_embeddings().weight.shape[0],
        layers=info.decoder_layers or info.layers,
        heads=heads,
        head_size=width // heads,
        special=SpecialTokens(
            start=generation.decoder_start_token_id if info.decoder_layers else None,
            ends=tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,),
            pad=model.backbone.pad_token_id,
        ),
    )
