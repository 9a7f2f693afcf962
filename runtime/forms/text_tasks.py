"""What running a form means where tasks are answered in text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from propetl.runtime.forms import BoundTask, Feeds, MixingForm
from propetl.runtime.generation.generate import OnTokens
from propetl.runtime.generation.options import GenerationOptions
from propetl.runtime.generation.steps import Steps, Tokens


class Generate(Protocol):
    """Generates for one batch; see :func:`propetl.runtime.generation.generate.generate`."""

    def __call__(
        self, feeds: Feeds, options: GenerationOptions, places: Tokens | None = None, on_tokens: OnTokens | None = None
    ) -> list[Tokens]:
        """The tokens of each row, its end included."""


@dataclass(frozen=True)
class GeneratingTask(BoundTask):
    """A task that is answered in text.

    Attributes:
        generate: generates over token inputs.
        start: begins a generation over token inputs, for whoever takes the steps by himself.
    """

    generate: Generate
    start: Callable[[Feeds], Steps]


@runtime_checkable
class MixingTextForm(MixingForm, Protocol):
    """A form that runs rows of several tasks in one batch, of tasks that are answered in text."""

    def generate_mixed(
        self, tasks: Sequence[BoundTask], feeds: Feeds, options: GenerationOptions, places: Tokens
    ) -> list[Tokens]:
        """Generates for rows that each have a task of their own, all in the same way."""
