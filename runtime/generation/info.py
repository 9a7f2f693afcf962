"""What a device has to know of a backbone that generates: plain data in the artifact's manifest."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from propetl import fields
from propetl.runtime.generation.options import SpecialTokens

Kind = Literal["encoder-decoder", "decoder"]


@dataclass(frozen=True)
class GenerationInfo:
    """A backbone that generates.

    Attributes:
        kind: whether it has an encoder.
        vocabulary: width of the logits.
        layers: of the decoder; each keeps keys and values.
        heads: of those keys and values.
        head_size: width of one head.
        special: start, end and padding tokens.
    """

    kind: Kind
    vocabulary: int
    layers: int
    heads: int
    head_size: int
    special: SpecialTokens

    def __post_init__(self) -> None:
        fields.one_of(get_args(Kind), self.kind, "kind")
        for key in ("vocabulary", "layers", "heads", "head_size"):
            fields.whole(getattr(self, key), key, 1)
        if (self.special.start is None) == (self.kind == "encoder-decoder"):
            raise ValueError(f"a start token goes with an encoder; kind is {self.kind}, start {self.special.start}")

    def to_json(self) -> dict[str, Any]:
        """As written in ``artifact.json``."""
        return asdict(self) | {"special": self.special.to_json()}

    @classmethod
    def from_json(cls, value: Any) -> "GenerationInfo":
        """Inverse of :meth:`to_json`; an unknown key is a ValueError."""
        found = fields.record(value, "generation", cls.__dataclass_fields__)
        return cls(**found | {"special": SpecialTokens.from_json(found["special"])})
