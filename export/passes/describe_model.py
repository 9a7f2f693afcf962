"""Writes into a graph where it comes from and what it is for."""

from collections.abc import Mapping

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
        model.producer_name, model.producer_version = PRODUCER, self.version
        model.ir_version = 10
        model.graph.name = self.metadata.get("propetl.form", PRODUCER)
        model.metadata_props.clear()
        model.metadata_props.update(self.metadata)
        return ir.passes.PassResult(model, True)
