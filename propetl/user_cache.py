"""Where what can be made again is kept for a user of this machine."""

import os
from pathlib import Path


def user_cache(kind: str) -> Path:
    """The folder ``propetl/KIND`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``; it may not be there yet."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the specification of XDG_CACHE_HOME: a relative path is to be ignored
        base = Path.home() / ".cache"
    return base / "propetl" / kind
