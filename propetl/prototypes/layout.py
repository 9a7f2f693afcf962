"""The tensors of a method on one backbone: which there are, and their shapes."""

from dataclasses import dataclass

from propetl.prototypes.spec import PrototypeConfig, TaskLayout


def layout_of(
    config: PrototypeConfig,
    hidden_size: int,
    layers: int,
    decoder_layers: int = 0,
    query_size: int | None = None,
    key_value_size: int | None = None,
) -> TaskLayout:
    """The tensors of ``config`` on one backbone.

    Args:
        config: the method.
        hidden_size: width of the backbone, ``h``.
        layers: of the backbone, or of an encoder-decoder's encoder.
        decoder_layers: of an encoder-decoder's decoder.
        query_size: width of all heads' queries together, ``q``; ``h`` if None.
        key_value_size: the same of keys and of values, ``v``; ``q`` if None.
    """
    queries = query_size or hidden_size
    widths = _Widths(hidden_size, queries, key_value_size or queries)
    return TaskLayout(config, hidden_size, layers, _SHAPES[config.method](config, widths), decoder_layers)


@dataclass(frozen=True)
class _Widths:
    hidden: int
    query: int
    key_value: int


def _adapter_shapes(config: PrototypeConfig, widths: _Widths) -> dict[str, tuple[int, ...]]:
    width, hidden = config.bottleneck, widths.hidden
    return {
        "down.weight": (width, hidden),
        "down.bias": (width,),
        "up.weight": (hidden, width),
        "up.bias": (hidden,),
    }


def _lora_shapes(config: PrototypeConfig, widths: _Widths) -> dict[str, tuple[int, ...]]:
    outputs = {"query": widths.query, "key": widths.key_value, "value": widths.key_value}
    shapes: dict[str, tuple[int, ...]] = {}
    for target in config.targets:
        shapes |= {f"{target}.a": (config.rank, widths.hidden), f"{target}.b": (outputs[target], config.rank)}
    return shapes


def _prefix_shapes(config: PrototypeConfig, widths: _Widths) -> dict[str, tuple[int, ...]]:
    return {"prefix": (config.prefix_length, 2 * widths.key_value)}


def _no_shapes(config: PrototypeConfig, widths: _Widths) -> dict[str, tuple[int, ...]]:
    return {}


_SHAPES = {
    "adapter": _adapter_shapes,
    "lora": _lora_shapes,
    "prefix": _prefix_shapes,
    "head": _no_shapes,
    "full": _no_shapes,
}
