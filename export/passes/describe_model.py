"""Writes into a graph where it comes from and what it is for."""

from collections.abc import Iterator, Mapping

import onnx_ir as ir

PRODUCER = "propetl"


class DescribeModel(ir.passes.InPlacePass):
    """Sets producer, version, documentation and metadata of the model, and fixes its opset and IR version.

    Requires: nothing.
    Ensures: the metadata are those given; no node keeps the tracer's notes, which hold paths of the machine.
    """

    def __init__(self, version: str, metadata: Mapping[str, str]) -> None:
        """``version`` of the producer and ``metadata`` by key."""
        super().__init__()
        self.version = version
        self.metadata = dict(metadata)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Sets them."""
        ir.passes.common.ClearMetadataAndDocStringPass()(model)
        model.doc_string = None
        model.metadata_props.clear()
        for value in _values(model):
            value.metadata_props.clear()
            value.doc_string = None
        model.producer_name, model.producer_version = PRODUCER, self.version
        model.ir_version = 10
        model.graph.name = self.metadata.get("propetl.form", PRODUCER)
        model.metadata_props.update(self.metadata)
        return ir.passes.PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """Looks for notes that were not given here."""
        if dict(model.metadata_props) != self.metadata or model.producer_name != PRODUCER:
            raise ir.passes.PostconditionError(f"the metadata are {dict(model.metadata_props)}")
        for part in (*model.graph, *_values(model)):
            if part.metadata_props or part.doc_string:
                raise ir.passes.PostconditionError(f"{part} keeps the notes {dict(part.metadata_props)}")


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    yield from model.graph.initializers.values()
    for node in model.graph:
        yield from node.outputs
