"""Every method there is. A further one is a folder beside this file and a line here (docs/adding-a-method.md)."""

from typing import Any

from propetl.prototypes.adapter.specification import Adapter, AdapterOptions
from propetl.prototypes.baselines import FullFineTuning, HeadAlone
from propetl.prototypes.ia3.specification import Ia3
from propetl.prototypes.lora.specification import Lora, LoraOptions
from propetl.prototypes.method import Method
from propetl.prototypes.prefix.specification import Prefix, PrefixOptions

METHODS: dict[str, Method[Any]] = {
    method.name: method
    for method in (
        Adapter(),
        Lora(),
        Prefix(),
        Ia3(),
        HeadAlone(),
        FullFineTuning(),
    )
}


class MethodOptions(AdapterOptions, LoraOptions, PrefixOptions):
    """Hyper-parameters of all methods; a method without any is not named here."""
