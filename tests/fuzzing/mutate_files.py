"""Damage to safetensors files and ONNX graphs that knows what stands where."""

import json
from random import Random
from typing import Any

from tests.fuzzing.mutate import damaged, damaged_json

_LENGTH_BYTES = 8
_DTYPES = ("BOOL", "U8", "I8", "I32", "I64", "U64", "F16", "BF16", "F32", "F64", "F8_E4M3", "", "f32")
_SIZES = (0, 1, -1, 2**31, 2**60, 2**63, 2**64, True, 1.0, None)
_SHAPES: tuple[list[int], ...] = ([], [0], [2**40, 2**40], [1] * 40, [1] * 100)
_OPERATORS = ("Identity", "Loop", "Reshape", "Gather", "MatMul", "Expand", "Nothing", "", "Tile")
_EXTERNAL = ("0", "-1", "1", str(2**62), "", "x", "../backbone.data", "/etc/passwd", "artifact.json")


def damaged_tensors(content: bytes, random: Random) -> bytes:
    """A safetensors file whose header, offsets, types or bytes were changed."""
    kind = random.random()
    if kind < 0.3:
        return damaged(content, random)
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    header, values = json.loads(content[_LENGTH_BYTES:start]), content[start:]
    if kind < 0.5:
        return _file(damaged_json(header, random), values, random)
    if kind < 0.65 and "__metadata__" in header:
        for key, text in header["__metadata__"].items():
            header["__metadata__"][key] = damaged_json(json.loads(text), random)
    elif kind < 0.9:
        _change_entries(header, random)
    else:
        values = damaged(values, random)
    return _file(json.dumps(header), values, random)


def _change_entries(header: dict[str, Any], random: Random) -> None:
    names = [name for name in header if name != "__metadata__"]
    for name in random.sample(names, min(len(names), random.choice((1, 1, 2)))):
        entry, other = header[name], header.get(random.choice(names), header[name])
        sizes = [entry["shape"], entry["data_offsets"]]
        change = random.randrange(7)
        if change == 0:
            entry["dtype"] = random.choice(_DTYPES)
        elif change == 1 and any(sizes):
            chosen = random.choice([numbers for numbers in sizes if numbers])
            chosen[random.randrange(len(chosen))] = random.choice(_SIZES)
        elif change == 2:
            entry["shape"] = random.choice((*_SHAPES, list(reversed(entry["shape"]))))
        elif change == 3:
            entry["data_offsets"] = other["data_offsets"]
        elif change == 4:
            header[random.choice(("a", "mask.x", "head.gain", "\ud800"))] = header.pop(name)
        elif change == 5:
            header.pop(name)
        else:
            entry["data_offsets"] = [offset + random.choice((-4, -1, 1, 4)) for offset in entry["data_offsets"]]


def _file(header: str, values: bytes, random: Random) -> bytes:
    text = header.encode("utf-8", "surrogatepass")
    length = len(text) + (random.choice((-1, 1, 8, 2**31, 2**62)) if random.random() < 0.05 else 0)
    return max(length, 0).to_bytes(_LENGTH_BYTES, "little") + text + values


def damaged_graph(content: bytes, random: Random) -> bytes:
    """An ONNX graph that is changed as protobuf, or as bytes."""
    if random.random() < 0.4:
        return damaged(content, random)
    import onnx  # here: the other targets do without

    model = onnx.load_from_string(content)
    for _ in range(random.choice((1, 1, 2))):
        random.choice(_GRAPH_CHANGES)(model.graph, random)
    return bytes(model.SerializeToString())


def _change_node(graph: Any, random: Random) -> None:
    node = random.choice(graph.node)
    change = random.randrange(5)
    if change == 0:
        node.op_type = random.choice(_OPERATORS)
    elif change == 1 and node.input:
        node.input[random.randrange(len(node.input))] = random.choice([*_names(graph), "", "nowhere"])
    elif change == 2 and node.output:
        node.output[0] = random.choice([*_names(graph), "new"])
    elif change == 3 and node.attribute:
        _change_attribute(random.choice(node.attribute), random)
    else:
        node.domain = random.choice(("", "com.microsoft", "nowhere"))


def _change_attribute(attribute: Any, random: Random) -> None:
    number = random.choice((-1, 0, 1, 7, 2**31, 2**62, -(2**62)))
    attribute.i = number
    for index in range(len(attribute.ints)):
        attribute.ints[index] = number
    if random.random() < 0.3:
        attribute.type = random.randrange(12)


def _drop_node(graph: Any, random: Random) -> None:
    if graph.node:
        del graph.node[random.randrange(len(graph.node))]


def _swap_nodes(graph: Any, random: Random) -> None:
    nodes = list(graph.node)
    random.shuffle(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def _change_weight(graph: Any, random: Random) -> None:
    if not graph.initializer:
        return
    weight = random.choice(graph.initializer)
    change = random.randrange(5)
    if change == 0 and weight.dims:
        weight.dims[random.randrange(len(weight.dims))] = random.choice((0, 1, -1, 7, 2**31, 2**62))
    elif change == 1:
        weight.data_type = random.randrange(24)
    elif change == 2 and weight.external_data:
        entry = random.choice(weight.external_data)
        entry.value = random.choice(_EXTERNAL)
    elif change == 3:
        weight.raw_data = damaged(weight.raw_data, random)
    else:
        weight.name = random.choice(("", "new", *_names(graph)))


def _change_side(graph: Any, random: Random) -> None:
    """Names, types and sizes of what it takes and gives."""
    values = [*graph.input, *graph.output, *graph.value_info]
    if not values:
        return
    value = random.choice(values)
    tensor = value.type.tensor_type
    change = random.randrange(4)
    if change == 0:
        value.name = random.choice(("", "new", *_names(graph)))
    elif change == 1:
        tensor.elem_type = random.randrange(24)
    elif change == 2 and tensor.shape.dim:
        random.choice(tensor.shape.dim).dim_value = random.choice((0, 1, -1, 2, 2**31, 2**62))
    else:
        tensor.shape.dim.add().dim_param = random.choice(("batch", "rows", ""))


def _names(graph: Any) -> list[str]:
    made = [name for node in graph.node for name in node.output]
    return [*made, *(value.name for value in graph.input), *(weight.name for weight in graph.initializer)]


_GRAPH_CHANGES = (_change_node, _change_node, _drop_node, _swap_nodes, _change_weight, _change_weight, _change_side)
