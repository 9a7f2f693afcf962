"""What tests that need a GPU start from: which providers there are here."""

import pytest

from propetl.errors import BackendError, MissingExtraError
from propetl.runtime.engines.provider import OrtProvider
from propetl.runtime.engines.providers import PROVIDERS
from propetl.runtime.session import Session

GPU_PROVIDERS = tuple(
    name for name, one in PROVIDERS.items() if isinstance(one, OrtProvider) and one.memory == "cuda"
)
"""Those that run graphs; plans are tested where they are built."""

# What tells that a provider is not installed; whatever else keeps it from starting is a failure.
_NOT_INSTALLED = ("the onnxruntime here serves", "Please install TensorRT libraries")


def open_or_skip(path, provider, **options):
    """A session on ``provider`` with its first engine loaded; skipped where the provider is not installed."""
    try:
        session = Session.open(path, provider, **options)
        session.task(session.tasks[0])
    except BackendError as error:
        if isinstance(error, MissingExtraError) or any(sign in str(error) for sign in _NOT_INSTALLED):
            pytest.skip(str(error))
        raise
    return session
