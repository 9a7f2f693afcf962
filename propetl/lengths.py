"""Lengths that a backbone can read and write: no longer than it has positions."""

from collections.abc import Mapping
from typing import cast

from propetl.backbone import Backbone
from propetl.bundle.text import TextInfo
from propetl.errors import ConfigurationError


def positions_of(backbone: Backbone) -> int | None:
    """Tokens that the longest input of ``backbone`` has; None where positions are relative and have no end."""
    kind, config = backbone.family.positions, backbone.model.config
    if kind == "relative":
        return None
    positions: int = config.max_position_embeddings
    if kind == "behind padding":
        # RoBERTa counts from behind the padding token's id: of 514 positions, 512 are used.
        return positions - cast(int, backbone.model.get_submodule("embeddings").padding_idx) - 1
    return positions


def check_lengths(backbone: Backbone, max_length: int, texts: Mapping[str, TextInfo | None]) -> None:
    """Refuses lengths beyond the positions of ``backbone``.

    Args:
        backbone: to be trained on, or that was.
        max_length: tokens to which texts are truncated.
        texts: by task, how it is answered in text; None for a task with a head.

    Raises:
        ConfigurationError: naming the largest length there can be.
    """
    positions, name = positions_of(backbone), backbone.info.name
    if positions is None:
        return
    if max_length > positions:
        raise ConfigurationError(
            f"max_length {max_length} is more than backbone {name} has positions for: {positions} is the largest"
        )
    together = backbone.family.kind == "decoder"
    for task, text in texts.items():
        most = positions - max_length if together else positions
        if text is not None and text.max_target_length > most:
            with_prompt = f" behind a prompt of max_length {max_length}" if together else ""
            or_shorter = f", or max_length of {positions - text.max_target_length} with it" if together else ""
            raise ConfigurationError(
                f"task {task!r}: max_target_length {text.max_target_length}{with_prompt} is more than backbone {name} "
                f"has positions for ({positions}): {most} is the largest{or_shorter}"
            )
