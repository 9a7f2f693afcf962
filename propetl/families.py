"""Backbone families: where in each architecture a prototype attaches. A further family is one entry here."""

from dataclasses import dataclass

from propetl.errors import ConfigurationError


@dataclass(frozen=True)
class SubLayer:
    """One residual sub-layer of a transformer layer; paths are relative to the layer.

    Attributes:
        output: module whose output is ``h``, the last value before the residual addition.
        residual: module that receives ``r`` as an argument.
        residual_argument: position of ``r`` among its arguments.
        layer_norm: the LayerNorm over ``h + r``.
    """

    output: str
    residual: str
    residual_argument: int
    layer_norm: str


@dataclass(frozen=True)
class Family:
    """Paths of one architecture of transformers.

    Attributes:
        name: ``config.model_type``.
        layers: path of the list of layers in the base model.
        attention: sub-layer after attention.
        ffn: sub-layer after the feed-forward network.
        projections: paths in a layer of the query, key and value projections.
        self_attention: path in a layer of the module that attends.
        attention_interface: whether that module goes through transformers' attention interface.
        head_activation: of the family's own classification head.
        takes_token_types: whether the base model reads ``token_type_ids``.
    """

    name: str
    layers: str
    attention: SubLayer
    ffn: SubLayer
    projections: dict[str, str]
    self_attention: str
    attention_interface: bool = True
    head_activation: str = "tanh"
    takes_token_types: bool = True


def _bert_like(name: str, head_activation: str = "tanh", takes_token_types: bool = True) -> Family:
    return Family(
        name=name,
        layers="encoder.layer",
        attention=SubLayer("attention.output.dropout", "attention.output", 1, "attention.output.LayerNorm"),
        ffn=SubLayer("output.dropout", "output", 1, "output.LayerNorm"),
        projections={kind: f"attention.self.{kind}" for kind in ("query", "key", "value")},
        self_attention="attention.self",
        head_activation=head_activation,
        takes_token_types=takes_token_types,
    )


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _bert_like("bert"),
        # RoBERTa-type models have a token type table of one row: the input would carry nothing.
        _bert_like("roberta", takes_token_types=False),
        _bert_like("xlm-roberta", takes_token_types=False),
        _bert_like("electra", head_activation="gelu"),
        Family(
            name="distilbert",
            layers="transformer.layer",
            attention=SubLayer("attention.out_lin", "attention", 0, "sa_layer_norm"),
            ffn=SubLayer("ffn", "ffn", 0, "output_layer_norm"),
            projections={
                "query": "attention.q_lin",
                "key": "attention.k_lin",
                "value": "attention.v_lin",
            },
            self_attention="attention",
            head_activation="relu",
            takes_token_types=False,
        ),
        Family(
            name="mpnet",
            layers="encoder.layer",
            attention=SubLayer("attention.dropout", "attention", 0, "attention.LayerNorm"),
            ffn=SubLayer("output.dropout", "output", 1, "output.LayerNorm"),
            projections={"query": "attention.attn.q", "key": "attention.attn.k", "value": "attention.attn.v"},
            self_attention="attention.attn",
            attention_interface=False,
            takes_token_types=False,
        ),
    )
}


def family_of(model_type: str) -> Family:
    """The family of ``config.model_type``.

    Raises:
        ConfigurationError: naming the families there are.
    """
    if model_type not in FAMILIES:
        raise ConfigurationError(
            f"backbone family {model_type!r} is not supported; supported: {', '.join(FAMILIES)} "
            "(docs/adding-a-family.md)"
        )
    return FAMILIES[model_type]
