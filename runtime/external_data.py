"""Which files an ONNX graph takes weights from, read out of its bytes without the library onnx.

Only what leads to tensors is followed (onnx.proto of ONNX 1.23). The rest is stepped over: a message in which the word
``location`` does not stand names no file. Protocol buffers may repeat a field, so every occurrence is looked at.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from propetl.errors import ArtifactError

_KEY = b"location"
_FIXED = {1: 8, 5: 4}  # bytes by wire type

Span = tuple[int, int]


@dataclass(frozen=True)
class _Kind:
    """Fields of a message that lead to tensors, by number."""

    fields: "dict[int, _Kind]" = field(default_factory=dict)


_ENTRY, _TENSOR, _SPARSE = _Kind(), _Kind(), _Kind()
_GRAPH, _NODE, _ATTRIBUTE, _FUNCTION, _TRAINING, _MODEL = (_Kind() for _ in range(6))
_TENSOR.fields.update({13: _ENTRY})
_SPARSE.fields.update({1: _TENSOR, 2: _TENSOR})
_ATTRIBUTE.fields.update({5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE})
_NODE.fields.update({5: _ATTRIBUTE})
_GRAPH.fields.update({1: _NODE, 5: _TENSOR, 15: _SPARSE})
_FUNCTION.fields.update({7: _NODE, 11: _ATTRIBUTE})
_TRAINING.fields.update({1: _GRAPH, 2: _GRAPH})
_MODEL.fields.update({7: _GRAPH, 20: _TRAINING, 25: _FUNCTION})


def check_external_data(content: bytes, allowed: str, source: str) -> None:
    """Refuses a graph that takes weights from another file than ``allowed``.

    Args:
        content: the ONNX file.
        allowed: the one file that weights may stand in, as graphs name it.
        source: of the graph, for messages.

    Raises:
        ArtifactError: naming the file; or the content is no protocol buffer.
    """
    try:
        for location in _locations(content, (0, len(content)), _MODEL):
            if location != allowed.encode():
                named = location[:100].decode(errors="backslashreplace")
                raise ArtifactError(
                    f"{source}: takes weights from {named!r}, and only {allowed!r} is for graphs; do not use it"
                )
    except (ValueError, IndexError, RecursionError) as error:
        raise ArtifactError(f"{source}: not a readable ONNX graph ({error}); restore it") from error


def _locations(content: bytes, span: Span, kind: _Kind) -> Iterator[bytes]:
    if content.find(_KEY, *span) < 0:
        return
    if kind is _ENTRY:
        yield from _values(content, span)
        return
    for number, found in _fields(content, span):
        if number in kind.fields:
            yield from _locations(content, found, kind.fields[number])


def _values(content: bytes, span: Span) -> Iterator[bytes]:
    """The values of an entry, key and value, whose key is ``location``, among whatever else it is."""
    found = [(number, content[start:end]) for number, (start, end) in _fields(content, span)]
    if (1, _KEY) in found:
        yield from [value for number, value in found if number == 2] or [b""]


def _fields(content: bytes, span: Span) -> Iterator[tuple[int, Span]]:
    """Number and place of every field that has a length; numbers are stepped over."""
    place, end = span
    while place < end:
        tag, place = _varint(content, place)
        wire = tag & 7
        if wire == 2:
            length, place = _varint(content, place)
            start, place = place, place + length
            if place <= end:
                yield tag >> 3, (start, place)
        elif wire == 0:
            _, place = _varint(content, place)
        elif wire in _FIXED:
            place += _FIXED[wire]
        else:
            raise ValueError(f"field of unknown type {wire} at byte {place}")
    if place > end:
        raise ValueError(f"a field ends behind byte {end}")


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = content[place]
    place += 1
    if value < 0x80:
        return value, place
    value, shift = value & 0x7F, 7
    while (byte := content[place]) >= 0x80:
        value, shift, place = value | (byte & 0x7F) << shift, shift + 7, place + 1
        if shift > 63:
            raise ValueError(f"a number of too many bytes at byte {place}")
    return value | byte << shift, place + 1
