"""YAML files, --set and --task."""

from pathlib import Path

import pytest

from propetl.errors import ConfigurationError
from propetl.training.config_file import load_config, parse_settings
from propetl.training.tasks import specs_of

EXAMPLES = Path(__file__).parents[3] / "examples"
YAML = """
backbone: some/model
prototype: {method: lora, rank: 4}
tasks: {rte: null, own: {columns: text, labels: [a, b]}}
data: data
output: run
score_learning_rate: 3e-2
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "c.yaml").write_text(YAML)
    return tmp_path / "c.yaml"


def test_the_file_is_read(path):
    config = load_config(path)
    assert (config.prototype.method, config.prototype.rank, config.score_rate) == ("lora", 4, 0.03)
    assert list(config.tasks) == ["rte", "own"]


def test_overrides_win_over_the_file(path):
    config = load_config(path, {"prototype.rank": 8, "output": "elsewhere"})
    assert (config.prototype.rank, config.prototype.method, config.output) == (8, "lora", Path("elsewhere"))


def test_only_some_tasks(path):
    config = load_config(path, only=["own", "cola"])
    assert config.tasks == {"own": {"columns": "text", "labels": ["a", "b"]}, "cola": None}


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_valid(example):
    assert specs_of(load_config(example).tasks)


def test_there_are_examples():
    assert {path.name for path in EXAMPLES.glob("*.yaml")} >= {"glue.yaml", "lora.yaml", "prefix.yaml", "own_task.yaml"}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"a: [", "not valid YAML"),
        (b"\xff\xfe\xfa", "not valid YAML"),
        (b"", "found NoneType"),
        (b"- a\n- b\n", "found list"),
        (b"3: x\n", "key: value"),
        (b"!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content, part):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: ")
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"gone\.yaml: no such file"):
        load_config(tmp_path / "gone.yaml")


def test_an_override_below_a_plain_value_is_refused(path):
    with pytest.raises(ConfigurationError, match="backbone is 'some/model', which has no keys"):
        load_config(path, {"backbone.name": "x"})


def test_settings_are_read_as_yaml():
    settings = ["a.b=3", "c=[x, y]", "d=", "e=true", "f=a=b", "prototype.sites=[attention, ffn]"]
    assert parse_settings(settings) == {
        "a.b": 3,
        "c": ["x", "y"],
        "d": None,
        "e": True,
        "f": "a=b",
        "prototype.sites": ["attention", "ffn"],
    }


@pytest.mark.parametrize("setting", ["epochs", "=3", "a..b=3", ".a=3", "a=[", "a.=1"])
def test_a_wrong_setting_is_named(setting):
    with pytest.raises(ConfigurationError) as error:
        parse_settings([setting])
    assert repr(setting) in str(error.value)
