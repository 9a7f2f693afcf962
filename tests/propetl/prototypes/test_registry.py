"""Methods are found in one list, and everything else asks them."""

import re
import subprocess
import sys

import pytest

from propetl.prototypes.layer import MethodLayer
from propetl.prototypes.registry import METHODS
from propetl.prototypes.spec import PROTOTYPE_KEYS
from tests.device_env import ROOT

FOLDERS = ("propetl", "export", "runtime", "cli")
# Compares the name of a method, as in `config.method == "lora"` or `method in ("adapter", "lora")`.
BY_NAME = re.compile(r"""\bmethod\s*(?:==|!=|(?:not )?in\s*[(\[{])\s*["']""")


def test_nothing_outside_decides_by_the_name_of_a_method() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if not path.is_symlink()]
    assert len(files) > 200
    found = [path for path in files if BY_NAME.search(path.read_text("utf-8"))]
    assert found == []
    assert BY_NAME.search('if config.method == "lora":') and BY_NAME.search("if method not in ('head', 'full')")


def test_a_method_is_listed_by_its_own_name_and_describes_itself() -> None:
    for name, method in METHODS.items():
        assert (method.name, bool(method.title)) == (name, True)
        assert 0 < method.learning_rate < 1 and 0 < method.score_learning_rate < 1 and 0 < method.sparsity <= 1
        assert isinstance(method.layer(), MethodLayer)
        assert (type(method.layer()) is MethodLayer) == method.baseline


def test_no_two_methods_have_a_key_of_one_name() -> None:
    assert len(set(PROTOTYPE_KEYS)) == len(PROTOTYPE_KEYS)


@pytest.mark.parametrize("method", METHODS)
def test_a_specification_is_read_without_torch(method: str) -> None:
    code = (
        "import sys; from propetl.prototypes.layout import layout_of; from propetl.prototypes.spec import "
        f"PrototypeConfig; layout_of(PrototypeConfig({method!r}), 8, 2, ffn_size=16); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
