"""What ``import propetl`` gives, and what that costs."""

import inspect
import json
import subprocess
import sys

import pytest

import propetl

NAMES = [
    "Attention",
    "Bundle",
    "Family",
    "Projection",
    "Session",
    "Stack",
    "SubLayer",
    "TrainConfig",
    "attach",
    "load_config",
    "register_family",
    "train",
]
HEAVY = {"torch", "transformers", "numpy", "onnx", "onnxruntime", "pydantic", "yaml", "click"}
LOADS = """
import json, sys
import propetl
for name in sys.argv[1:]:
    getattr(propetl, name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def loaded_by(*names):
    done = subprocess.run([sys.executable, "-c", LOADS, *names], capture_output=True, text=True, check=True)
    return HEAVY & set(json.loads(done.stdout))


def test_the_list_is_kept():
    assert propetl.__all__ == NAMES
    assert set(NAMES) <= set(dir(propetl))


def test_importing_it_loads_nothing():
    assert loaded_by() == set()


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("Session", {"torch", "transformers", "pydantic", "onnxruntime"}),
        ("Bundle", {"torch", "transformers", "onnxruntime"}),
        ("TrainConfig", {"torch", "transformers"}),
        ("load_config", {"torch", "transformers"}),
        ("Family", {"torch", "transformers", "numpy"}),
        ("register_family", {"torch", "transformers", "numpy"}),
    ],
)
def test_a_name_loads_what_it_needs(name, without):
    assert loaded_by(name).isdisjoint(without)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_what_it_is_called_and_says_what_it_does(name):
    found = getattr(propetl, name)
    assert found.__name__ == name and inspect.getdoc(found)


def test_another_name_is_an_error():
    with pytest.raises(AttributeError, match="module 'propetl' has no attribute 'sesion'"):
        propetl.sesion  # noqa: B018  # the look-up is what is tested
