"""Which class of transformers has a bundle's head, and where in it: PEFT saves these modules beside a LoRA."""

from dataclasses import dataclass

from propetl.errors import ConfigurationError
from propetl.families import family_of

SEQUENCE, TOKEN = "SEQ_CLS", "TOKEN_CLS"

_CLASSES = {
    SEQUENCE: "AutoModelForSequenceClassification",
    TOKEN: "AutoModelForTokenClassification",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "CAUSAL_LM": "AutoModelForCausalLM",
}


@dataclass(frozen=True)
class PeftHead:
    """One head as PEFT saves it.

    Attributes:
        task_type: PEFT's; it decides which class of transformers the folder is for.
        saved: what goes into ``modules_to_save``; names of modules, matched from their end. None where answers are
            generated: the language model's own head stays as it is.
        out: path of the module that holds ``weight`` and ``bias``.
        dense: path of the module that holds ``dense.weight`` and ``dense.bias``; None for a linear head.
    """

    task_type: str
    saved: tuple[str, ...] = ()
    out: str = ""
    dense: str | None = None

    @property
    def answers_tokens(self) -> bool:
        """Whether that class gives logits at every token."""
        return self.task_type == TOKEN

    @property
    def model_class(self) -> str:
        """transformers' class to load the backbone with."""
        return _CLASSES[self.task_type]

    def path_of(self, name: str) -> str:
        """Parameter of that class which holds the head's tensor ``name``."""
        if name.startswith("dense."):
            assert self.dense is not None
            return f"{self.dense}.{name.removeprefix('dense.')}"
        return f"{self.out}.{name}"


# A linear map of the first token: no family's sequence classifier is that, but every token classifier is, for each
# token; the first one's logits are the task's.
_LINEAR = PeftHead(TOKEN, ("classifier",), "classifier")
_TWO_IN_ONE = PeftHead(SEQUENCE, ("classifier",), "classifier.out_proj", "classifier.dense")

_OWN = {
    "bert": PeftHead(SEQUENCE, ("pooler", "classifier"), "classifier", "bert.pooler.dense"),
    "roberta": _TWO_IN_ONE,
    "xlm-roberta": _TWO_IN_ONE,
    "electra": _TWO_IN_ONE,
    "distilbert": PeftHead(SEQUENCE, ("pre_classifier", "classifier"), "classifier", "pre_classifier"),
    "mpnet": _TWO_IN_ONE,
}

FAMILIES = tuple(_OWN)
"""Encoders whose heads are known. A decoder's classifier in transformers has no bias: it holds none of ours."""

# Tags are said by what every family has: a linear map at every token.
_TAGS = {
    **dict.fromkeys(_OWN, _LINEAR),
    "gpt2": _LINEAR,
    **dict.fromkeys(("llama", "qwen2"), PeftHead(TOKEN, ("score",), "score")),
}

# Answers in text: the language model's own head stays as it is.
_TEXT = {"encoder-decoder": PeftHead("SEQ_2_SEQ_LM"), "decoder": PeftHead("CAUSAL_LM")}


def row_head(family: str, kind: str) -> PeftHead:
    """The head of ``family`` that answers once a row; ``kind`` is that of the bundle (``linear`` or ``own``).

    Raises:
        ConfigurationError: no class of transformers is known to have it.
    """
    if family not in _OWN:
        known = ", ".join(FAMILIES)
        raise ConfigurationError(
            f"form peft knows answers in text and the heads of {known}; this is a head on {family}"
        )
    return _OWN[family] if kind == "own" else _LINEAR


def token_head(family: str, kind: str) -> PeftHead:
    """The head of ``family`` that answers at every token; arguments and errors as for :func:`row_head`."""
    return _TAGS[family] if family in _TAGS else row_head(family, kind)


def text_head(family: str) -> PeftHead:
    """The language model's own head."""
    return _TEXT[family_of(family).kind]
