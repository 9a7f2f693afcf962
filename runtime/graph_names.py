"""Every graph of an artifact by one name: what an engine is of."""

from collections.abc import Iterator, Mapping

from propetl.runtime.engine_records import GraphName
from propetl.runtime.manifest import MODEL, FormInfo, GraphInfo
from propetl.runtime.signatures import STAGE_APPLY, STAGE_RUN, STAGES


def named_graphs(forms: Mapping[str, FormInfo]) -> dict[GraphName, GraphInfo]:
    """All graphs of ``forms``, form by form; the stages, which forms share, come after the first that has them."""
    found: dict[GraphName, GraphInfo] = {}
    for form, info in forms.items():
        for part, graphs in info.each_part().items():
            found |= {GraphName(form, task, part): graph for task, graph in graphs.all_graphs().items()}
            found |= {name: graph for name, graph in _stages(part, graphs) if name not in found}
    return found


def _stages(part: str, graphs: FormInfo) -> Iterator[tuple[GraphName, GraphInfo]]:
    """The two stages of one part, as graphs of a form of their own."""
    if graphs.stages is not None:
        for stage, graph in ((STAGE_APPLY, graphs.stages.apply), (STAGE_RUN, graphs.stages.run)):
            yield GraphName(STAGES, None, stage if part == MODEL else f"{part}/{stage}"), graph
