"""A hash that a JSON file keeps over itself: one that was damaged does not fit itself any more.

It finds damage and mistakes. Who may write the file may also write its hash.
"""

import json
from typing import Any

from propetl.errors import ProPETLError
from propetl.files import sha256_of_bytes

CONTENT_SHA256 = "content_sha256"


RESTORE = "restore it from its source, or write it again"

FILES = "files"
"""Key of a manifest that its hash leaves out: each record there is held against its file."""


def sealed(value: dict[str, Any], apart: str | None = None) -> dict[str, Any]:
    """``value`` with the hash over it as its last key.

    Args:
        value: what is written.
        apart: a key that the hash leaves out, as its value is held against something else.
    """
    rest = {key: item for key, item in value.items() if key != CONTENT_SHA256}
    hashed = {key: item for key, item in rest.items() if key != apart}
    text = json.dumps(hashed, ensure_ascii=False, separators=(",", ":"))
    return rest | {CONTENT_SHA256: sha256_of_bytes(text.encode())}


def unsealed(
    value: dict[str, Any], source: str, error: type[ProPETLError], apart: str | None = None, remedy: str = RESTORE
) -> dict[str, Any]:
    """``value`` without its hash, once it fits it.

    Args:
        value: what was read by :func:`propetl.strict_json.parse_json`.
        source: the file, for messages.
        error: class of the error to raise.
        apart: as for :func:`sealed`.
        remedy: what to do about it.
    """
    if CONTENT_SHA256 not in value:
        raise error(f"{source}: has no {CONTENT_SHA256}; it is incomplete, or of an early version; {remedy}")
    if value[CONTENT_SHA256] != sealed(value, apart)[CONTENT_SHA256]:
        raise error(f"{source}: its content is not what its {CONTENT_SHA256} says; it was changed or damaged; {remedy}")
    return {key: item for key, item in value.items() if key != CONTENT_SHA256}
