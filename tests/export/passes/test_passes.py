"""Running passes in order, with a record of each."""

import onnx_ir as ir
import pytest

from propetl.export.passes import PassRecord, run_passes
from propetl.export.passes.drop_stale_shapes import DropStaleShapes
from propetl.export.passes.fold_constants import FoldConstants

TEXT = """<ir_version: 10, opset_import: ["" : 20]>
graph (float[n] x) => (float[n] y) <float[1] w = {2}> { v = Relu(w) y = Mul(x, v) }"""


def test_each_pass_leaves_a_record():
    records = run_passes(ir.from_onnx_text(TEXT), [FoldConstants(), DropStaleShapes()])
    assert [(one.name, one.modified, one.nodes_before, one.nodes_after) for one in records] == [
        ("FoldConstants", True, 2, 1),
        ("DropStaleShapes", False, 1, 1),
    ]
    assert all(one.seconds >= 0 for one in records)


def test_a_record_as_a_line():
    assert str(PassRecord("Fold", True, 5, 3, 0.126)) == "Fold: 5 → 3 nodes (0.13 s)"
    assert str(PassRecord("Fold", False, 5, 5, 0.0)) == "Fold: nothing to do (0.00 s)"


def test_a_condition_that_fails_stops_the_run():
    class Never(ir.passes.InPlacePass):
        def call(self, model):
            return ir.passes.PassResult(model, False)

        def ensures(self, model):
            raise ir.passes.PostconditionError("never")

    with pytest.raises(ir.passes.PostconditionError, match="never"):
        run_passes(ir.from_onnx_text(TEXT), [Never()])
