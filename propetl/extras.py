"""Optional dependencies, looked for before the work that would end at one that is missing."""

from importlib.util import find_spec

from propetl.errors import MissingExtraError


def check_installed(purpose: str, module: str, extra: str) -> None:
    """Refuses early, and imports nothing: a library may take seconds to come.

    Args:
        purpose: option or feature that needs it.
        module: name of the top module.
        extra: of this project, which brings it.

    Raises:
        MissingExtraError: it is not installed.
    """
    if not _is_installed(module):
        raise MissingExtraError(purpose, module, extra)


def _is_installed(module: str) -> bool:
    try:
        found = find_spec(module)
    except ModuleNotFoundError:
        return False
    return found is not None and found.origin is not None  # without: a folder that happens to be called so
