"""The documentation against the code: links, flags, keys, and every table that repeats one of the code's."""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx_ir as ir
import pytest
import yaml

from propetl.bits import pack
from propetl.bundle.format import BackboneInfo
from propetl.bundle.text import TextInfo
from propetl.bundle.writer import write_bundle
from propetl.cli.main import COMMANDS, main
from propetl.data.generated import GENERATED
from propetl.data.own_task import KEYS
from propetl.data.tasks import TASKS
from propetl.export import passes
from propetl.families import FAMILIES
from propetl.problems import PROBLEMS
from propetl.prototypes.layout import layout_of
from propetl.prototypes.registry import METHODS
from propetl.prototypes.spec import PROTOTYPE_KEYS, PrototypeConfig
from propetl.runtime.engine_records import EngineInfo
from propetl.runtime.manifest import Manifest
from propetl.runtime.session import Session
from propetl.runtime.signatures import FORM_RULES
from propetl.task import TaskSpec
from propetl.training.config import CHANGEABLE, TrainConfig
from tests.tiny_bundle import random_contents

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#{1,6}) +(.*?) *$", re.MULTILINE)
_COMMAND = re.compile(r"\bpropetl ({})\b([^`\n]*)".format("|".join(COMMANDS)))
_FLAG = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def test_pages_that_issue_and_readme_name_are_there():
    expected = {"README", "artifact-format", "bundle-format", "compiler", "training", "exporting", "validating"}
    expected |= {"running", "inspecting", "benchmarking", "results"}
    expected |= {"adding-a-family", "adding-a-method", "adding-a-problem", "adding-a-task"}
    assert expected <= {page.stem for page in DOCS.glob("*.md")}


def test_tritons_image_installs_what_was_put_into_it():
    """There is no package on an index: the wheel that the command before it makes is copied in."""
    page = (DOCS / "triton.md").read_text()
    assert "pip wheel --no-deps --wheel-dir wheels ." in page
    lines = page.split("```dockerfile")[1].split("```")[0].split("\n")
    assert [line for line in lines if "pip install" in line] == ["RUN pip install /wheels/propetl-*.whl"]
    assert "COPY wheels /wheels" in lines


@pages
def test_links_resolve(page):
    broken = [target for target in _links(page) if not _resolves(page, target)]
    assert not broken


def test_every_page_is_in_the_index():
    linked = {(DOCS / target.partition("#")[0]).resolve() for target in _links(DOCS / "README.md")}
    assert set(DOCS.glob("*.md")) - linked <= {DOCS / "README.md"}


@pages
def test_flags_that_are_shown_exist(page):
    unknown = [
        f"propetl {command} {flag}"
        for command, rest in _commands(page.read_text("utf-8"))
        for flag in _FLAG.findall(rest)
        if flag not in _flags_of(command)
    ]
    assert not unknown


def test_commands_are_found_at_all():
    """The check above would pass if it read nothing."""
    shell = "$ propetl train a.yaml --no-such \\\n    --neither | jq --else\n"
    text = f"```console\n{shell}```\n`propetl bench OUT --form x`\n"
    assert list(_commands(text)) == [("train", " a.yaml --no-such      --neither "), ("bench", " OUT --form x")]


@pytest.mark.parametrize(
    ("page", "command"),
    [("exporting", "export"), ("validating", "validate"), ("importing", "import"), ("reproducing", "reproduce")],
)
def test_option_tables_are_of_that_command(page, command):
    text = (DOCS / f"{page}.md").read_text("utf-8")
    first_cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `-")]
    shown = {flag for cell in first_cells for flag in _FLAG.findall(cell)}
    known = {max(option.opts, key=len): set(option.opts) for option in _options_of(command)}
    assert shown <= _flags_of(command)
    assert {name for name, opts in known.items() if not opts & shown} == set()


def test_sets_are_those_of_the_file():
    named = [name for row in _table("reproducing.md", "Sets") for name in re.findall(r"`([^`]+)`", row[0])]
    assert sorted(named) == sorted(yaml.safe_load((ROOT / "examples/paper/sets.yaml").read_text("utf-8")))


def test_config_keys_are_those_of_the_code():
    rows = _table("training.md", "Configuration")
    assert [_code(row[0]) for row in rows] == list(TrainConfig.model_fields)
    for row in rows:
        item = TrainConfig.model_fields[_code(row[0])]
        if _code(row[0]) == "prototype":
            assert item.default.method == row[1]
        else:
            assert row[1] == ("needed" if item.is_required() else f"`{_yaml(item.default)}`"), row[0]


def test_prototype_keys_are_those_of_the_code():
    rows = _table("training.md", "Prototype keys")
    assert [_code(row[0]) for row in rows] == list(PROTOTYPE_KEYS)
    for row in rows:
        default = getattr(PrototypeConfig(), _code(row[0]))
        assert row[1] == ("the method's" if _code(row[0]) == "sparsity" else f"`{_yaml(default)}`")


def test_method_defaults_are_those_of_the_code():
    for method, _, rate, score_rate, sparsity in _table("training.md", "Methods"):
        defaults = METHODS[_code(method)]
        assert float(rate) == defaults.learning_rate
        if score_rate:
            assert (float(score_rate), float(sparsity)) == (defaults.score_learning_rate, defaults.sparsity)


def test_keys_that_a_resumed_run_may_change():
    (sentence,) = re.findall(r"a\nchanged key is refused, except ([^.]*)\.", (DOCS / "training.md").read_text("utf-8"))
    assert set(re.findall(r"`(\w+)`", sentence)) == CHANGEABLE


def test_known_tasks_are_named():
    text = (DOCS / "training.md").read_text("utf-8")
    assert all(f"`{task}`" in text for task in TASKS)
    assert [_code(row[0]) for row in _table("training.md", "Data")] == list(GENERATED)


def test_keys_of_an_own_task():
    assert tuple(_code(row[0]) for row in _table("adding-a-task.md", "In the configuration")) == KEYS
    assert tuple(_code(row[0]) for row in _table("adding-a-task.md", "Answers in text")) == PROBLEMS["text"].keys


def test_passes_are_those_of_the_compiler():
    described = re.findall(r"^### (\w+)$", _section("compiler.md", "Passes"), re.MULTILINE)
    assert sorted(described) == sorted(_pass_classes())


def test_families_are_those_of_the_table():
    rows = {_code(row[0]): row[1:] for row in _table("adding-a-family.md", "Families")}
    assert list(rows) == list(FAMILIES)
    for name, family in FAMILIES.items():
        attention = "interface" if family.attention_interface else "own"
        token_types = "yes" if family.takes_token_types else "no"
        layers = ", ".join(f"`{stack.layers}`" for stack in family.stacks)
        head = "none" if family.kind == "encoder-decoder" else family.head_activation
        assert rows[name] == [family.kind, layers, token_types, attention, head]


@pytest.mark.parametrize(
    ("page", "section"), [("exporting.md", "Forms"), ("artifact-format.md", "Graphs"), ("compiler.md", "Bind")]
)
def test_forms_are_those_of_the_code(page, section):
    assert [_code(row[0]) for row in _table(page, section, "form")] == list(FORM_RULES)


def test_keys_of_the_bundle_manifest(tmp_path):
    write_bundle(tmp_path / "bundle", random_contents(PrototypeConfig(bottleneck=4)))
    written = json.loads((tmp_path / "bundle" / "bundle.json").read_text("utf-8"))
    assert _keys("bundle-format.md", "Top level") == list(written)
    assert _keys("bundle-format.md", "backbone") == [item.name for item in fields(BackboneInfo)]
    assert _keys("bundle-format.md", "prototype") == list(written["prototype"])
    assert _keys("bundle-format.md", "task") == [item.name for item in fields(TaskSpec)][1:]
    assert _keys("bundle-format.md", "text") == [item.name for item in fields(TextInfo)]
    header = (tmp_path / "bundle" / "tasks" / "first.safetensors").read_bytes()
    described = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    assert _keys("bundle-format.md", "Metadata of a task pack") == list(json.loads(described["propetl"]))


def test_keys_of_the_artifact_manifest():
    stated = _keys("artifact-format.md", "artifact.json")
    assert stated == ["format", "version", *(item.name for item in fields(Manifest)), "content_sha256"]


def test_keys_of_an_engine():
    stated = [_code(row[0]) for row in _table("artifact-format.md", "Engines", "engine key")]
    assert stated == [item.name for item in fields(EngineInfo)]


def test_prototype_tensors_are_those_of_the_code():
    text = _section("bundle-format.md", "prototype.safetensors")
    for method in METHODS:
        config = PrototypeConfig(method=method, bottleneck=7, rank=7, prefix_length=5)
        for tensor in layout_of(config, 12, 2, ffn_size=48).tensors:
            name = re.sub(r"^(query|value)\.", "TARGET.", tensor.name)
            sizes = ", ".join({7: "r", 12: "h", 5: "P", 24: "2h", 48: "f"}[size] for size in tensor.shape)
            (row,) = [line for line in text.splitlines() if f"| `{name}` |" in line]
            assert f"`[{sizes}]`" in row and row.endswith("| yes |" if tensor.masked else "| no |")


def test_the_packing_example_is_right():
    text = _section("bundle-format.md", "Packing")
    bits = re.findall(r"[01]", re.findall(r"^ +mask +(.*)$", text, re.MULTILINE)[0])
    (hexadecimal,) = re.findall(r"^ +hex +(\w+)$", text, re.MULTILINE)
    assert len(bits) == 11
    assert pack(np.array([bit == "1" for bit in bits])).tobytes().hex() == hexadecimal


def test_the_session_table_is_the_sessions_interface():
    code = " ".join(row[0] for row in _table("running.md", "Session", "member"))
    public = {name for name, _ in inspect.getmembers(Session) if not name.startswith("_")}
    assert set(re.findall(r"[sS]ession\.(\w+)", code)) == public
    stated = re.search(r"Session\.open\(([^)]*)\)", code)
    assert stated is not None
    names = [part.partition("=")[0].strip() for part in stated[1].split(",")]
    assert names == list(inspect.signature(Session.open).parameters)


@pages
def test_python_examples_compile_and_import_what_there_is(page):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        compile(block, str(page), "exec")
        for module, names in re.findall(r"^from (propetl[\w.]*) import ([\w, ]+)$", block, re.MULTILINE):
            there = importlib.import_module(module)
            assert all(hasattr(there, name.strip()) for name in names.split(","))


def _links(page: Path) -> list[str]:
    prose = _FENCE.sub("", page.read_text("utf-8"))
    return [target for target in _LINK.findall(prose) if not re.match(r"[a-z]+:", target)]


def _resolves(page: Path, target: str) -> bool:
    relative, _, anchor = target.partition("#")
    path = (page.parent / relative).resolve() if relative else page
    if not path.exists() or not path.is_relative_to(ROOT):
        return False
    return not anchor or anchor in _anchors(path)


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them: lower case, blanks to dashes, other signs dropped, repeats numbered."""
    found: dict[str, int] = {}
    for _, heading in _HEADING.findall(_FENCE.sub("", page.read_text("utf-8"))):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Command and what follows it on its line, up to a comment or a pipe; also in prose between backticks."""
    joined = re.sub(r"\\\n", " ", text)
    for command, rest in _COMMAND.findall(joined):
        yield command, re.split(r" #|[|;]", rest)[0]


def _options_of(command: str) -> list[click.Option]:
    found = main.get_command(click.Context(main), command)
    assert found is not None
    return [item for item in found.params if isinstance(item, click.Option)]


def _flags_of(command: str) -> set[str]:
    return {"-h", "--help"} | {flag for option in _options_of(command) for flag in option.opts}


def _section(page: str, heading: str) -> str:
    """What stands below ``heading``, with its sub-sections."""
    text = (DOCS / page).read_text("utf-8")
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found is not None, f"{page} has no section {heading!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def _table(page: str, heading: str, first: str | None = None) -> list[list[str]]:
    """Rows of the first table in a section, or of the first whose first column is called ``first``."""
    tables = re.findall(r"(?:^\|.*\n)+", _section(page, heading), re.MULTILINE)
    cells = [[[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()] for table in tables]
    chosen = [table for table in cells if first is None or table[0][0] == first]
    assert chosen, f"{page}, section {heading!r}: no such table"
    return chosen[0][2:]


def _keys(page: str, heading: str) -> list[str]:
    return [_code(row[0]) for row in _table(page, heading, "key")]


def _code(cell: str) -> str:
    return cell.strip("`")


def _yaml(value: Any) -> str:
    """A default as the tables write it."""
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def _pass_classes() -> list[str]:
    modules = [
        importlib.import_module(f"{passes.__name__}.{item.name}") for item in pkgutil.iter_modules(passes.__path__)
    ]
    return [
        name
        for module in modules
        for name, item in inspect.getmembers(module, inspect.isclass)
        if issubclass(item, ir.passes.PassBase) and item.__module__ == module.__name__
    ]
