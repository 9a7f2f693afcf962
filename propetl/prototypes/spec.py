"""The configuration of a prototype: its method, who shares it, and its masks. Plain data, also for the device."""

import re
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_args

from propetl import fields
from propetl.errors import ConfigurationError
from propetl.prototypes.method import Method, check_one_of
from propetl.prototypes.registry import METHODS, MethodOptions

Sharing = Literal["masked", "unshared", "sparse", "tasks"]
Scope = Literal["model", "stack"]
MaskKind = Literal["layer", "hybrid", "only-layers", "only-tasks"]
Combination = Literal["or", "and", "add"]

STACKS = ("encoder", "decoder")
"""Stacks of layers of an encoder-decoder, in the order in which slots count."""

ATTENTIONS = ("self", "cross")
"""Attentions of a layer, in the order in which slots count."""

_LANGUAGE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class _AnyMethod:
    """The type of ``method`` where pydantic reads it: one of the names there are, so that it can list them."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """A schema that takes the names of :data:`METHODS`."""
        from pydantic_core import core_schema  # here: a device does not have it

        return core_schema.literal_schema(list(METHODS))


@dataclass(frozen=True)
class PrototypeConfig(MethodOptions):
    """Hyper-parameters of a prototype; defaults follow the paper (sections 3.1 and 4.1).

    Those that belong to one method are attributes, too: :class:`propetl.prototypes.registry.MethodOptions`.

    Attributes:
        method: name of what is attached to the backbone; ``head`` attaches nothing, ``full`` trains the backbone.
        sharing: ``masked`` shares one prototype and masks it; ``unshared`` gives every slot and task float
            weights of its own (the usual adapter, LoRA or prefix); ``sparse`` does so too, each under a mask;
            ``tasks`` gives every slot weights of its own, which all tasks share.
        scope: of one ``masked`` prototype: the whole ``model``, or a ``stack`` of layers, which gives encoder and
            decoder one each.
        masks: over a shared prototype. ``layer``: a mask per slot for every task. ``hybrid``: a mask per slot
            shared by all tasks, and a mask per task shared by all slots. ``only-layers`` and ``only-tasks``:
            one half of ``hybrid``.
        combine: how the masks of ``hybrid`` become one: ``or``, ``and``, or ``add``, which
            counts them.
        languages: of a ``hybrid`` prototype that also has a mask per language, shared by all slots and by the
            tasks that name the language. Empty, or every task names one of them.
        sparsity: share of prototype weights that a mask keeps (the paper's k), in (0, 1].
    """

    method: Annotated[str, _AnyMethod()] = "adapter"
    sharing: Sharing = "masked"
    scope: Scope = "model"
    masks: MaskKind = "layer"
    combine: Combination = "or"
    languages: tuple[str, ...] = ()
    sparsity: float = 0.5

    def __post_init__(self) -> None:
        check_one_of("method", self.method, tuple(METHODS))
        check_one_of("sharing", self.sharing, get_args(Sharing))
        check_one_of("scope", self.scope, get_args(Scope))
        check_one_of("masks", self.masks, get_args(MaskKind))
        check_one_of("combine", self.combine, get_args(Combination))
        self._check_masks()
        if not 0.0 < self.sparsity <= 1.0:
            raise ConfigurationError(f"sparsity is the share of weights kept and lies in (0, 1]; got {self.sparsity}")
        for method in METHODS.values():
            method.check(self)

    def _check_masks(self) -> None:
        if self.masks != "layer" and not self.masked:
            raise ConfigurationError(f"masks: {self.masks} needs one prototype, so sharing: masked; got {self.sharing}")
        if self.scope != "model" and not self.masked:
            raise ConfigurationError(
                f"scope: {self.scope} is of a prototype, so sharing: masked; with {self.sharing} every layer has "
                "weights of its own"
            )
        if self.languages and self.masks != "hybrid":
            raise ConfigurationError(f"languages need masks: hybrid; got masks: {self.masks}")
        if not all(isinstance(name, str) and _LANGUAGE.fullmatch(name) for name in self.languages):
            raise ConfigurationError(
                "languages: 1-32 of a-z, 0-9, '_', '-' each, a letter or digit first; "
                f"got {fields.shown(list(self.languages))}"
            )
        if len(set(self.languages)) < len(self.languages):
            raise ConfigurationError(f"languages: each once; got {', '.join(self.languages)}")

    def check_language(self, task: str, language: str | None) -> None:
        """Refuses a task whose ``language`` this prototype has no mask for.

        Raises:
            ConfigurationError: it names none where there are some, or another.
        """
        if language in self.languages or (language is None and not self.languages):
            return
        known = ", ".join(self.languages) or "none"
        raise ConfigurationError(
            f"task {task!r}: its language is {language!r}, and the prototype has masks for: {known}; languages are "
            "settled when the prototype is trained (masks: hybrid, a language for every task)"
        )

    @property
    def specification(self) -> Method[Any]:
        """All that is known of the method before torch is loaded."""
        return METHODS[self.method]

    @property
    def masked(self) -> bool:
        """Whether a prototype runs under masks at its slots."""
        return self.sharing == "masked"

    def prototype_of(self, stack: int) -> str:
        """What the names of the tensors that run in a stack of layers start with: empty, or ``decoder.``, say."""
        return f"{STACKS[stack]}." if self.scope == "stack" else ""

    def places(self, attentions: int = 1) -> tuple[str, ...]:
        """Names of the slots of a layer that attends ``attentions`` times."""
        return self.specification.places(self, ATTENTIONS[:attentions])

    def to_json(self) -> dict[str, Any]:
        """As written in ``bundle.json``."""
        values = asdict(self)
        return {key: list(values[key]) if isinstance(values[key], tuple) else values[key] for key in PROTOTYPE_KEYS}

    @classmethod
    def from_json(cls, value: Any) -> "PrototypeConfig":
        """Inverse of :meth:`to_json`.

        Raises:
            ConfigurationError: an unknown key, or values that do not go together.
            ValueError: a value of another kind.
        """
        if unknown := fields.entries(value, "prototype").keys() - set(PROTOTYPE_KEYS):
            raise ConfigurationError(f"prototype: unknown key {min(unknown)!r}; known: {', '.join(PROTOTYPE_KEYS)}")
        return cls(**{key: _value_from(key, item) for key, item in value.items()})


def _keys() -> tuple[str, ...]:
    """Those that every prototype has, then those of each method."""
    own = [name for name in PrototypeConfig.__dataclass_fields__ if name in PrototypeConfig.__annotations__]
    options = [method.options.__dataclass_fields__ for method in METHODS.values() if method.options is not None]
    return (*own, *(name for names in options for name in names))


PROTOTYPE_KEYS = _keys()
"""Keys of a prototype in configurations and bundles, in the order in which they are written."""


def _value_from(key: str, value: Any) -> Any:
    """The value of one key, of the kind that its default has."""
    default = PrototypeConfig.__dataclass_fields__[key].default
    if isinstance(default, tuple):
        return fields.texts(value, key)
    if isinstance(default, str):
        return fields.text(value, key)
    return fields.number(value, key) if isinstance(default, float) else fields.whole(value, key, 1)
