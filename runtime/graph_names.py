"""Every graph of an artifact by one name: what an engine is of."""

from collections.abc import Iterator, Mapping

from propetl.runtime.engine_records import GraphName
from propetl.runtime.manifest import MODEL, FormInfo, GraphInfo, Stages
from propetl.runtime.signatures import STAGE_APPLY, STAGE_RUN, STAGES


def named_graphs(forms: Mapping[str, FormInfo]) -> dict[GraphName, GraphInfo]:
    """All graphs of ``forms``, form by form; the stages, which forms share, come after the first that has them."""
    found: dict[GraphName, GraphInfo] = {}
    for form, info in forms.items():
        for part, graphs in info.each_part().items():
            found |= {GraphName(form, task, part): graph for task, graph in graphs.all_graphs().items()}
        if info.stages is not None:
            found |= dict(_stages(info.stages))
    return found


def _stages(stages: Stages) -> Iterator[tuple[GraphName, GraphInfo]]:
    """The stages as graphs of a form of their own."""
    yield GraphName(STAGES, None, STAGE_APPLY), stages.apply
    for part, graph in stages.run.items():
        yield GraphName(STAGES, None, STAGE_RUN if part == MODEL else f"{STAGE_RUN}/{part}"), graph
