"""Backbone families: where in each architecture a prototype attaches. A further family is one entry here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from propetl.errors import ConfigurationError

Kind = Literal["encoder", "encoder-decoder", "decoder"]

Positions = Literal["absolute", "behind padding", "relative"]
"""``absolute``: as many as the configuration says, rotary ones too; ``behind padding``: counted from behind the padding
token's id, as RoBERTa does; ``relative``: without an end."""


@dataclass(frozen=True)
class SubLayer:
    """One residual sub-layer of a transformer layer; paths are relative to the layer.

    Attributes:
        output: module whose output is ``h``, the last value before the residual addition.
        residual: module that receives ``r`` as an argument.
        residual_argument: position of ``r`` among its arguments.
        layer_norm: the LayerNorm over ``h + r``; None in pre-norm layers, which normalise what goes in instead.
    """

    output: str
    residual: str
    residual_argument: int
    layer_norm: str | None


@dataclass(frozen=True)
class Projection:
    """Where a query, key or value projection is, relative to the layer.

    Attributes:
        path: of the module.
        part: which of its outputs' equal ``parts`` it is, where one module makes several.
        parts: how many there are.
    """

    path: str
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class Attention:
    """One attention of a layer; paths are relative to the layer.

    Attributes:
        module: the module that attends, whose keys and values a prefix stands before.
        projections: its query, key and value projections.
    """

    module: str
    projections: Mapping[str, Projection]

    def modules(self, targets: Iterable[str]) -> dict[str, dict[str, Projection]]:
        """The projections of ``targets`` that each module makes, by its path: mostly one, several where it is fused."""
        found: dict[str, dict[str, Projection]] = {}
        for target in targets:
            projection = self.projections[target]
            found.setdefault(projection.path, {})[target] = projection
        return found


@dataclass(frozen=True)
class Stack:
    """A list of equal layers.

    Attributes:
        layers: path of the list in the model, as :func:`propetl.backbone.load_backbone` loads it.
        attention: sub-layer of the self-attention.
        ffn: sub-layer of the feed-forward network.
        ffn_out: the projection that brings the FFN's inner values back to the hidden width.
        attentions: self-attention, then cross-attention where there is one.
    """

    layers: str
    attention: SubLayer
    ffn: SubLayer
    ffn_out: str
    attentions: tuple[Attention, ...]


@dataclass(frozen=True)
class Family:
    """Paths of one architecture of transformers.

    Attributes:
        name: ``config.model_type``.
        kind: what it is made of, and so which of transformers' classes loads it.
        stacks: encoder and decoder, in this order, or the only one.
        attention_interface: whether attention goes through transformers' attention interface.
        head_activation: of the family's own classification head.
        takes_token_types: whether the model reads ``token_type_ids``.
        positions: how it counts tokens, and so how long a text may be.
    """

    name: str
    kind: Kind
    stacks: tuple[Stack, ...]
    attention_interface: bool = True
    head_activation: str = "tanh"
    takes_token_types: bool = False
    positions: Positions = "absolute"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Token inputs that the model reads."""
        return ("input_ids", "attention_mask", *(("token_type_ids",) if self.takes_token_types else ()))

    @property
    def generates(self) -> bool:
        """Whether tasks may be answered in text."""
        return self.kind != "encoder"

    @property
    def takes_heads(self) -> bool:
        """Whether tasks may be answered by a head of their own."""
        return self.kind != "encoder-decoder"


def _projections(query: str, key: str, value: str) -> dict[str, Projection]:
    return {"query": Projection(query), "key": Projection(key), "value": Projection(value)}


def _bert_like(name: str, **more: Any) -> Family:
    layer = Stack(
        layers="encoder.layer",
        attention=SubLayer("attention.output.dropout", "attention.output", 1, "attention.output.LayerNorm"),
        ffn=SubLayer("output.dropout", "output", 1, "output.LayerNorm"),
        ffn_out="output.dense",
        attentions=(
            Attention(
                "attention.self", _projections("attention.self.query", "attention.self.key", "attention.self.value")
            ),
        ),
    )
    return Family(name, "encoder", (layer,), **({"takes_token_types": True} | more))


_DISTILBERT = Family(
    name="distilbert",
    kind="encoder",
    stacks=(
        Stack(
            layers="transformer.layer",
            attention=SubLayer("attention.out_lin", "attention", 0, "sa_layer_norm"),
            ffn=SubLayer("ffn", "ffn", 0, "output_layer_norm"),
            ffn_out="ffn.lin2",
            attentions=(Attention("attention", _projections("attention.q_lin", "attention.k_lin", "attention.v_lin")),),
        ),
    ),
    head_activation="relu",
)

_MPNET = Family(
    name="mpnet",
    kind="encoder",
    stacks=(
        Stack(
            layers="encoder.layer",
            attention=SubLayer("attention.dropout", "attention", 0, "attention.LayerNorm"),
            ffn=SubLayer("output.dropout", "output", 1, "output.LayerNorm"),
            ffn_out="output.dense",
            attentions=(
                Attention("attention.attn", _projections("attention.attn.q", "attention.attn.k", "attention.attn.v")),
            ),
        ),
    ),
    attention_interface=False,
    positions="behind padding",
)


def _t5_like(name: str) -> Family:
    """T5, also Flan-T5 (whose type is T5's) and mT5: pre-norm layers; the FFN is gated or not."""

    def attention(place: int, module: str) -> Attention:
        path = f"layer.{place}.{module}"
        return Attention(path, _projections(f"{path}.q", f"{path}.k", f"{path}.v"))

    def sub_layer(place: int) -> SubLayer:
        return SubLayer(f"layer.{place}.dropout", f"layer.{place}", 0, None)

    def stack(layers: str, ffn: int, attentions: tuple[Attention, ...]) -> Stack:
        return Stack(layers, sub_layer(0), sub_layer(ffn), f"layer.{ffn}.DenseReluDense.wo", attentions)

    self_attention, cross_attention = attention(0, "SelfAttention"), attention(1, "EncDecAttention")
    return Family(
        name=name,
        kind="encoder-decoder",
        stacks=(
            stack("encoder.block", 1, (self_attention,)),
            stack("decoder.block", 2, (self_attention, cross_attention)),
        ),
        positions="relative",
    )


def _bart_attention(module: str) -> Attention:
    return Attention(module, _projections(f"{module}.q_proj", f"{module}.k_proj", f"{module}.v_proj"))


_BART_SUB_LAYERS = (
    SubLayer("self_attn.out_proj", "self_attn", 0, "self_attn_layer_norm"),
    SubLayer("fc2", "fc1", 0, "final_layer_norm"),
    "fc2",
)

_BART = Family(
    name="bart",
    kind="encoder-decoder",
    stacks=(
        Stack("model.encoder.layers", *_BART_SUB_LAYERS, (_bart_attention("self_attn"),)),
        Stack(
            "model.decoder.layers", *_BART_SUB_LAYERS, (_bart_attention("self_attn"), _bart_attention("encoder_attn"))
        ),
    ),
)

_GPT2 = Family(
    name="gpt2",
    kind="decoder",
    stacks=(
        Stack(
            layers="transformer.h",
            attention=SubLayer("attn.resid_dropout", "ln_1", 0, None),
            ffn=SubLayer("mlp.dropout", "ln_2", 0, None),
            ffn_out="mlp.c_proj",
            attentions=(
                Attention(
                    "attn",
                    {kind: Projection("attn.c_attn", part, 3) for part, kind in enumerate(("query", "key", "value"))},
                ),
            ),
        ),
    ),
)


def _llama_like(name: str) -> Family:
    attention = _projections("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    layer = Stack(
        layers="model.layers",
        attention=SubLayer("self_attn.o_proj", "input_layernorm", 0, None),
        ffn=SubLayer("mlp.down_proj", "post_attention_layernorm", 0, None),
        ffn_out="mlp.down_proj",
        attentions=(Attention("self_attn", attention),),
    )
    return Family(name, "decoder", (layer,))


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _bert_like("bert"),
        # RoBERTa-type models have a token type table of one row: the input would carry nothing.
        _bert_like("roberta", takes_token_types=False, positions="behind padding"),
        _bert_like("xlm-roberta", takes_token_types=False, positions="behind padding"),
        _bert_like("electra", head_activation="gelu"),
        _DISTILBERT,
        _MPNET,
        _t5_like("t5"),
        _t5_like("mt5"),
        _BART,
        _GPT2,
        _llama_like("llama"),
        _llama_like("qwen2"),
    )
}


ENTRY_POINTS = "propetl.families"
"""Group of entry points by which an installed package brings families: each names a :class:`Family`."""


def register_family(family: Family) -> None:
    """Makes a family known to this process: backbones of ``family.name`` can be loaded, trained and exported.

    A package brings its families to every process, the command line's too, by entry points of the group
    ``propetl.families``, each of which names a :class:`Family`.

    Raises:
        ConfigurationError: the name is known already, with other paths.
    """
    if FAMILIES.setdefault(family.name, family) != family:
        raise ConfigurationError(f"backbone family {family.name!r} is known already, with other paths")


def family_of(model_type: str) -> Family:
    """The family of ``config.model_type``, one that an installed package brings among them.

    Raises:
        ConfigurationError: naming the families there are.
    """
    if model_type not in FAMILIES:
        _load_entry_points()
    if model_type not in FAMILIES:
        raise ConfigurationError(
            f"backbone family {model_type!r} is not supported; supported: {', '.join(FAMILIES)} "
            "(docs/adding-a-family.md)"
        )
    return FAMILIES[model_type]


def _load_entry_points() -> None:
    from importlib.metadata import entry_points  # here: a family that is known needs none

    for point in entry_points(group=ENTRY_POINTS):
        try:
            family = point.load()
        except Exception as error:  # of another's code, whatever it is
            raise ConfigurationError(f"{point.value} of an installed package cannot be loaded: {error}") from error
        if not isinstance(family, Family):
            raise ConfigurationError(f"{point.value} of an installed package is no propetl.Family")
        register_family(family)
