"""What does not depend on the text is computed now."""

import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.passes.fold_constants import FoldConstants


def model_of(body, head='<ir_version: 10, opset_import: ["" : 20]>', functions=""):
    return ir.from_onnx_text(f"{head} graph (float[n, 2] x) => (float[n, m] y) {body} {functions}")


def test_masks_vanish_into_weights():
    """Prototype times mask, transposed: one MatMul is left."""
    model = model_of(
        """<float[2, 2] prototype = {1, 2, 3, 4}, float[2, 2] mask = {1, 0, 0, 1}> {
            masked = Mul(prototype, mask)
            turned = Transpose<perm = [1, 0]>(masked)
            y = MatMul(x, turned)
        }"""
    )
    assert FoldConstants()(model).modified
    (node,) = model.graph
    assert node.op_type == "MatMul"
    assert node.inputs[1].const_value.numpy().tolist() == [[1, 0], [0, 4]]


def test_results_of_any_size_are_folded():
    model = model_of("{ shape = Constant<value_ints = [2, 40000]>() one = Constant<value_float = 1.0>() "
                     "w = Expand(one, shape) y = MatMul(x, w) }")  # fmt: skip
    FoldConstants()(model)
    (node,) = model.graph
    assert node.inputs[1].const_value.numpy().shape == (2, 40000)


def test_sizes_of_outputs_are_called_as_they_were():
    """The tracer leaves names of its own inside, which the optimiser would put on the output."""
    model = model_of("<float[s72, s91] inside> { inside = Relu(x) y = Identity(inside) }")
    FoldConstants()(model)
    (node,) = model.graph
    assert node.op_type == "Relu" and [str(size) for size in model.graph.outputs[0].shape] == ["n", "m"]


def test_nothing_to_fold():
    model = model_of("{ y = Relu(x) }")
    assert not FoldConstants()(model).modified and len(model.graph) == 1


def test_what_depends_on_the_text_stays():
    model = model_of("<float[2, 2] w = {1, 2, 3, 4}> { z = MatMul(x, w) y = Relu(z) }")
    FoldConstants()(model)
    assert [node.op_type for node in model.graph] == ["MatMul", "Relu"]
    assert np.array_equal(model.graph.node(0).inputs[1].const_value.numpy(), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # (1, 3) less 2 by 1, (7, 7) less 7: no spread, then times scale and plus shift.
        ("v = LayerNormalization(w, scale, shift)", [[-1, 3], [0, 1]]),
        ("v, mean, by = LayerNormalization(w, scale, shift)", [[-1, 3], [0, 1]]),
        ("a, b = Split<num_outputs = 2>(w) v = Concat<axis = 0>(b, a)", [[7, 7], [1, 3]]),
        ("u = HardSwish(w) v = Neg(u)", [[-2 / 3, -3], [-7, -7]]),
    ],
    ids=["one output", "three outputs", "several outputs", "defined by others"],
)
def test_operators_that_the_optimiser_leaves_are_folded(body, expected):
    constants = "<float[2, 2] w = {1, 3, 7, 7}, float[2] scale = {1, 2}, float[2] shift = {0, 1}>"
    model = model_of(f"{constants} {{ {body} y = MatMul(x, v) }}")
    FoldConstants()(model)
    (node,) = model.graph
    assert node.op_type == "MatMul" and set(model.graph.initializers) == {node.inputs[1].name}
    np.testing.assert_allclose(node.inputs[1].const_value.numpy(), expected, atol=1e-4)


def test_an_output_that_is_constant_stays_an_output():
    model = model_of("<float[2, 2] w = {1, 3, 7, 7}> { y, z = Split<num_outputs = 2, axis = 1>(w) }")
    FoldConstants()(model)
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert model.graph.outputs[0].const_value.numpy().tolist() == [[1], [7]]


def test_operators_of_one_engine_are_left_to_it():
    model = model_of(
        "<float[2, 2] w = {1, 2, 3, 4}> { v = com.microsoft.QuickGelu(w) y = MatMul(x, v) }",
        head='<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>',
    )
    FoldConstants()(model)
    assert [node.op_type for node in model.graph] == ["QuickGelu", "MatMul"]


def test_requires_a_graph_without_functions():
    model = model_of(
        "{ y = local.twice(x) }",
        head='<ir_version: 10, opset_import: ["" : 20, "local" : 1]>',
        functions='<domain: "local", opset_import: ["" : 20]> twice (a) => (b) { b = Add(a, a) }',
    )
    with pytest.raises(ir.passes.PreconditionError, match="1 functions are not inlined"):
        FoldConstants()(model)


def test_ensures_that_nothing_constant_is_left():
    model = model_of("<float[2, 2] w = {1, 2, 3, 4}> { v = Relu(w) y = MatMul(x, v) }")
    with pytest.raises(ir.passes.PostconditionError, match=r"Relu .* has constant inputs only"):
        FoldConstants().ensures(model)


def test_random_numbers_are_not_constants():
    model = model_of("<float[1, 2] w = {1, 2}> { r = RandomNormalLike(w) y = Add(x, r) }")
    FoldConstants().ensures(model)
