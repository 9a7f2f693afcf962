"""Who changes a bundle holds it: two at once would each write a manifest without the other's change."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from propetl.errors import BundleError


@contextmanager
def held(bundle: Path) -> Iterator[None]:
    """Lets one caller at a time change the bundle in folder ``bundle``; others wait.

    Raises:
        BundleError: there is no such folder.
    """
    descriptor = _locked(bundle)
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(bundle: Path) -> int:
    """A locked descriptor of the folder; who held it before may have put another one in its place."""
    while True:
        try:
            descriptor = os.open(bundle, os.O_RDONLY)
        except OSError as error:
            raise BundleError(f"{bundle}: no bundle is there ({error.strerror})") from error
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if bundle.exists() and os.path.samestat(os.fstat(descriptor), bundle.stat()):
            return descriptor
        os.close(descriptor)
