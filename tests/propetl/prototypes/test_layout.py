"""The tensors that follow from hyper-parameters and a backbone."""

import pytest

from propetl.errors import ConfigurationError
from propetl.prototypes.layout import layout_of
from propetl.prototypes.spec import PrototypeConfig

H, L = 8, 3


ADAPTER = {"down.weight": (2, 8), "down.bias": (2,), "up.weight": (8, 2), "up.bias": (8,)}
BIASES = {"down.bias", "up.bias"}
LORA = {"query.a": (2, 8), "query.b": (8, 2), "value.a": (2, 8), "value.b": (8, 2)}


@pytest.mark.parametrize(
    ("config", "slots", "shapes", "unmasked"),
    [
        (PrototypeConfig(bottleneck=2), 3, ADAPTER, BIASES),
        (PrototypeConfig(bottleneck=2, sites=("attention", "ffn")), 6, ADAPTER, BIASES),
        (PrototypeConfig(method="lora", rank=2), 3, LORA, set()),
        (PrototypeConfig(method="lora", rank=4, targets=("key",)), 3, {"key.a": (4, 8), "key.b": (8, 4)}, set()),
        (PrototypeConfig(method="prefix", prefix_length=5), 3, {"prefix": (5, 16)}, set()),
        (PrototypeConfig(method="head"), 3, {}, set()),
        (PrototypeConfig(method="full"), 3, {}, set()),
    ],
)
def test_layouts(config, slots, shapes, unmasked):
    layout = layout_of(config, H, L)
    assert layout.slots == slots
    assert {tensor.name: tensor.shape for tensor in layout.tensors} == shapes == layout.prototype_shapes()
    assert {tensor.name for tensor in layout.tensors if not tensor.masked} == unmasked
    bytes_of = {name: -(-_size(shape) // 8) for name, shape in shapes.items() if name not in unmasked}
    assert layout.mask_shapes() == {name: (slots, count) for name, count in bytes_of.items()}
    assert layout.weight_shapes() == {}


@pytest.mark.parametrize("sharing", ["unshared", "sparse"])
def test_an_unshared_task_owns_every_tensor_at_every_slot(sharing):
    layout = layout_of(PrototypeConfig(sharing=sharing, bottleneck=2, sites=("attention", "ffn")), H, L)
    assert layout.weight_shapes() == {
        "down.weight": (6, 2, 8),
        "down.bias": (6, 2),
        "up.weight": (6, 8, 2),
        "up.bias": (6, 8),
    }
    assert layout.mask_shapes() == {} and layout.prototype_shapes() == {}


def test_tasks_share_the_weights_of_every_slot():
    layout = layout_of(PrototypeConfig("lora", "tasks", rank=2, targets=("key",)), H, L, decoder_layers=1)
    assert layout.prototype_shapes() == {"key.a": (5, 2, 8), "key.b": (5, 8, 2)}
    assert layout.mask_shapes() == {} and layout.weight_shapes() == {}


EACH = PrototypeConfig(bottleneck=2, masks="hybrid", languages=("de",), scope="stack")


def test_encoder_and_decoder_have_a_prototype_each():
    layout = layout_of(EACH, H, L, decoder_layers=2)
    names = [f"{stack}.{name}" for stack in ("encoder", "decoder") for name in ADAPTER]
    assert list(layout.prototype_shapes()) == names
    assert layout.prototype_shapes() == {name: ADAPTER[name.split(".", 1)[1]] for name in names}
    slots = {"encoder.down.weight": 3, "encoder.up.weight": 3, "decoder.down.weight": 2, "decoder.up.weight": 2}
    assert layout.layer_mask_shapes() == {name: (count, 2) for name, count in slots.items()}
    assert layout.mask_shapes() == layout.language_mask_shapes() == dict.fromkeys(slots, (2,))
    assert (layout.slots, layout.prototypes) == (5, {"encoder.": 3, "decoder.": 2})


def test_where_each_prototype_runs():
    each = layout_of(PrototypeConfig("prefix", scope="stack"), H, 2, decoder_layers=2)
    assert [each.place(slot) for slot in range(6)] == [
        ("encoder.", 0), ("encoder.", 1), ("decoder.", 0), ("decoder.", 1), ("decoder.", 2), ("decoder.", 3)
    ]  # fmt: skip
    one = layout_of(PrototypeConfig("prefix"), H, 2, decoder_layers=2)
    assert [one.place(slot) for slot in range(6)] == [("", slot) for slot in range(6)]
    with pytest.raises(IndexError, match="slot 6"):
        each.place(6)


def test_a_backbone_of_one_stack_has_one_prototype():
    with pytest.raises(ConfigurationError, match="this backbone has one stack of layers: leave scope out"):
        layout_of(EACH, H, L)


@pytest.mark.parametrize(
    ("masks", "languages", "task", "layers", "language"),
    [
        ("layer", (), (3, 2), None, None),
        ("hybrid", (), (2,), (3, 2), None),
        ("hybrid", ("de", "en"), (2,), (3, 2), (2,)),
        ("only-layers", (), None, (3, 2), None),
        ("only-tasks", (), (2,), None, None),
    ],
)
def test_whose_masks_there_are(masks, languages, task, layers, language):
    layout = layout_of(PrototypeConfig(bottleneck=2, masks=masks, languages=languages), H, L)
    for found, shape in (
        (layout.mask_shapes(), task),
        (layout.layer_mask_shapes(), layers),
        (layout.language_mask_shapes(), language),
    ):
        assert found == ({} if shape is None else {"down.weight": shape, "up.weight": shape})


def _size(shape):
    return shape[0] * (shape[1] if len(shape) == 2 else 1)
