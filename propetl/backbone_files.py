"""The files of a backbone: where a name leads, and a folder of those that transformers may read.

A folder of a model may hold more than data: modules that its configuration names, pickled weights, adapters that
transformers attaches by itself where PEFT is installed. So transformers is shown a folder with a configuration that
names no code, and with weights that are tensors and nothing else.
"""

import importlib.util
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from propetl.errors import ConfigurationError
from propetl.files import path_inside
from propetl.strict_json import any_length, parse_json

PACKAGE_SCHEME = "package:"

CONFIG, GENERATION = "config.json", "generation_config.json"
_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
# Keys of a configuration that name Python modules, other files of weights, or kernels to fetch.
_NAMES_CODE = ("auto_map", "custom_generate", "transformers_weights", "fusion_config", "kernel_config")
_IMPLEMENTATIONS = re.compile(r"_?(attn|experts)_implementation(_internal)?")

_NO_FOLDER = "there is no such folder"


def source_of(name: str) -> str:
    """A hub name or a folder, of a name that may be ``package:MODULE/FOLDER``. Nothing is imported.

    Raises:
        ConfigurationError: there is no such package, or the folder is not inside it.
    """
    if not name.startswith(PACKAGE_SCHEME):
        return name
    module, _, folder = name.removeprefix(PACKAGE_SCHEME).partition("/")
    if not module.isidentifier():  # a name with dots would import the packages before the last
        raise ConfigurationError(f"backbone {name!r}: write package:MODULE/FOLDER, where MODULE is a name without dots")
    roots = _places_of(module)
    if not roots:
        raise ConfigurationError(f"backbone {name!r}: the package {module!r} is not installed")
    found = [_folder_inside(root, folder.rstrip("/"), name) for root in roots]
    return str(next((path for path in found if path.is_dir()), found[0]))


def check_name(name: str) -> None:
    """Refuses a name that leads nowhere, as far as that is known without the hub: PyTorch takes seconds to import.

    Raises:
        ConfigurationError: as for :func:`source_of`; or there is no such folder.
    """
    source = source_of(name)
    if _names_a_folder(source) and not Path(source).is_dir():
        raise ConfigurationError(f"backbone {name!r} cannot be loaded: {_NO_FOLDER}")


def _names_a_folder(source: str) -> bool:
    """Whether no repository of the hub can be meant."""
    return Path(source).is_absolute() or source.count("/") > 1 or source.startswith(".") or "\0" in source


def _places_of(module: str) -> list[Path]:
    """Folders of a package, several of a namespace; none of what is a module, built in or not there."""
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # it is loaded, and does not say from where
        return []
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _folder_inside(root: Path, folder: str, name: str) -> Path:
    try:
        return path_inside(root, folder, ConfigurationError) if folder else root
    except ConfigurationError as error:
        reason = f"{folder!r} is no folder inside the package"
        raise ConfigurationError(f"backbone {name!r}: {reason}; write package:MODULE/FOLDER") from error


def folder_of(source: str, revision: str | None, allow_pickle: bool) -> Path:
    """The folder ``source``, or what a repository of that name on the hub has of :func:`model_files`.

    Raises:
        OSError, ValueError: there is neither.
    """
    if Path(source).is_dir():
        return Path(source)
    if _names_a_folder(source):
        raise ValueError(_NO_FOLDER)
    from huggingface_hub import snapshot_download  # here: names are checked where nothing is loaded yet

    wanted = [CONFIG, GENERATION, *_SAFE, *(_PICKLED if allow_pickle else ())]
    folder = Path(snapshot_download(source, revision=revision, allow_patterns=wanted))
    shards = [name for index in wanted if (folder / index).is_file() for name in _shards(folder / index)]
    if shards:
        snapshot_download(source, revision=revision, allow_patterns=[*wanted, *shards])
    return folder


@contextmanager
def model_files(folder: Path, allow_pickle: bool) -> Iterator[Path]:
    """A temporary folder with the configuration and the weights of ``folder``, as links, and nothing else of it.

    Args:
        folder: of a model.
        allow_pickle: take ``pytorch_model.bin`` where there is no ``model.safetensors``.

    Raises:
        ValueError: the configuration is no JSON object, or there are no weights that may be read.
    """
    weights = _weights_in(folder, allow_pickle)
    with tempfile.TemporaryDirectory() as temporary:
        shown = Path(temporary)
        (shown / CONFIG).write_text(json.dumps(_without_code(folder / CONFIG)))
        if (folder / GENERATION).is_file():
            (shown / GENERATION).write_text(json.dumps(_without_code(folder / GENERATION)))
        for name in weights:
            (shown / name).symlink_to((folder / name).resolve())
        yield shown


def _weights_in(folder: Path, allow_pickle: bool) -> list[str]:
    """Names of the files of weights: one, or an index and its shards."""
    for name in (*_SAFE, *(_PICKLED if allow_pickle else ())):
        if (folder / name).is_file():
            return [name, *_shards(folder / name)]
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickled:
        remedy = ", or let tensors be read from it with --allow-pickle" if set(pickled) & set(_PICKLED) else ""
        raise ValueError(f"{pickled[0]} is pickled and may hold code: convert it to model.safetensors{remedy}")
    raise ValueError(f"it has no weights ({_SAFE[0]} is missing)")


def _shards(path: Path) -> list[str]:
    """Files that the index at ``path`` names; none of a file of weights itself."""
    if path.suffix != ".json":
        return []
    kind = path.name.removesuffix(".index.json").rpartition(".")[2]
    shards = _json(path).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{path.name} names no shards")
    for name in shards.values():
        if not isinstance(name, str) or not re.fullmatch(rf"[\w-][\w.-]*\.{kind}", name):
            raise ValueError(f"{path.name} names the shard {name!r}, which is no .{kind} file beside it")
    return sorted(set(shards.values()))


def _without_code(path: Path) -> dict[str, Any]:
    """The JSON object at ``path`` without the keys by which transformers would load more than it is given."""
    return {
        key: value
        for key, value in _json(path).items()
        if key not in _NAMES_CODE and not _IMPLEMENTATIONS.fullmatch(key)
    }


def _json(path: Path) -> dict[str, Any]:
    value = parse_json(path.read_bytes(), whole=any_length, not_finite=True)  # of transformers' own
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return value
