"""A page for browsers beside an artifact's graphs: ``runtime/web``, as any static server hands it out."""

from pathlib import Path
from typing import Any

import propetl.runtime
from propetl import fields
from propetl.errors import BundleError, ConfigurationError
from propetl.export.options import HALVES, ExportOptions
from propetl.files import file_record
from propetl.runtime.signatures import BARE
from propetl.strict_json import any_length, parse_json

FOLDER = "web"

# Tokenizers for which tokenise.js gives the ids that Python gives.
_KNOWN = {
    "normalizer": (None, "BertNormalizer"),
    "pre_tokenizer": ("BertPreTokenizer", "ByteLevel"),
    "model": ("WordPiece", "BPE"),
}


def check_page(options: ExportOptions, tokenizer: Path) -> None:
    """Refuses, before anything is compiled, what a page cannot run or might answer otherwise than Python.

    Args:
        options: of the export.
        tokenizer: folder of the bundle's tokenizer.

    Raises:
        ConfigurationError: naming the option, or the part of the tokenizer.
    """
    if set(options.forms) == {BARE}:
        raise ConfigurationError("--layout web runs folded, switchable or bank; found bare alone, which has no tasks")
    if options.quantize in HALVES:
        raise ConfigurationError(
            f"--quantize {options.quantize} is for GPUs, and a page computes on the CPU; choose fp32 or int8"
        )
    types = _types_of(tokenizer / "tokenizer.json")
    for part, known in _KNOWN.items():
        found = types[part]
        if found not in known:
            raise ConfigurationError(
                f"--layout {FOLDER}: {part} {found} of the tokenizer may give other ids in a browser than in Python "
                f"(known: {', '.join(str(name) for name in known)}); export without it"
            )


def _types_of(path: Path) -> dict[str, Any]:
    """The type of each part of a tokenizer that is looked at; None where it has no such part."""
    try:
        content = fields.entries(parse_json(path.read_bytes(), whole=any_length), "tokenizer")
        return {part: fields.entries(content.get(part) or {}, part).get("type") for part in _KNOWN}
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: not a readable tokenizer ({error}); restore it") from error


def add_page(artifact: Path) -> dict[str, dict[str, Any]]:
    """Writes the folder ``web`` below ``artifact``.

    Returns:
        Records of the files written, by their path below ``artifact``.
    """
    (artifact / FOLDER).mkdir()
    records = {}
    for source in page_files():
        target = artifact / FOLDER / source.name
        target.write_bytes(source.read_bytes())
        records[f"{FOLDER}/{source.name}"] = file_record(target)
    return records


def page_files() -> list[Path]:
    """The module, the page and what names the packages of npm that they need, as installed."""
    (package,) = propetl.runtime.__path__
    return sorted(path for path in Path(package, FOLDER).iterdir() if path.is_file())
