"""YAML files, --set and --task."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


NEEDED = "backbone: b\ndata: d\noutput: o\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("tasks:\n  m: {columns: t, labels: [a, b]}\n  m: {columns: t, labels: [c, d]}\n", ["line 6", "'m'", "line 5"]),
        ('tasks:\n  m: {columns: t, labels: {"1": a, "2": b, "1": c}}\n', ["line 5", "'1'", "same line"]),
        ("tasks: [rte]\nepochs: 3\nepochs: 1\n", ["line 6", "'epochs'", "line 5"]),
        ("tasks: [rte]\nprototype:\n  rank: 3\n  method: lora\n  rank: 4\n", ["line 8", "'rank'", "line 6"]),
        ("tasks: [rte]\nseed: 1\n'seed': 2\n", ["line 6", "'seed'"]),
        ("tasks: [{rte: , rte: }]\n", ["line 4", "'rte'"]),
        ("tasks: {m: {columns: t, labels: {1: a, 2: b, 1.0: c}}}\n", ["'1.0'"]),
        ("tasks: {m: {columns: t, labels: {1: a, true: b}}}\n", ["'true'"]),
        ("tasks: {m: {columns: t, labels: {010: a, 011: b}}}\n", ["010", "quotes"]),
        ("x: &x {seed: 1}\n<<: *x\n<<: *x\ntasks: [rte]\n", ["line 6", "'<<'"]),
        (f"tasks: [rte]\nseed: {'9' * 5000}\n", ["line 5", "no int"]),
        (f"tasks: [rte]\nseed: 0x{'f' * 5000}\n", ["line 5", "no int"]),
        ("tasks: [rte]\nseed: 2020-13-45\n", ["line 5", "no timestamp"]),
        ("tasks: [rte]\nmax_length: 0100\n", ["line 5", "'0100'", "another number"]),
        ("tasks: [rte]\nprototype: {bottleneck: -010}\n", ["line 5", "'-010'", "another number"]),
        ("tasks: [rte]\nmax_length: 1:30\n", ["line 5", "'1:30'", "another number"]),
        ("tasks: [rte]\nlearning_rate: 1:30.5\n", ["line 5", "'1:30.5'", "another number"]),
        ("tasks: [rte]\nepochs: yes\n", ["epochs", "a number is due", "True"]),
        ("tasks: [rte]\nmax_steps: on\n", ["max_steps", "a number is due", "True"]),
        ("tasks: [rte]\nseed: off\n", ["seed", "a number is due", "False"]),
        (f"tasks: {'[' * 5000}", ["nested too deeply"]),
    ],
)  # fmt: skip
def test_what_plain_yaml_takes_in_silence_is_refused(tmp_path, text, parts):
    path = tmp_path / "c.yaml"
    path.write_text(NEEDED + text)
    with pytest.raises(ConfigurationError) as error:
        load_config(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 400
    assert all(part in message for part in parts), message


def test_numbers_that_seem_what_they_are_stay(tmp_path):
    path = tmp_path / "c.yaml"
    numbers = "seed: 0\nlearning_rate: 0.01\nweight_decay: 1e-3\nmax_length: 0x40\nepochs: 01.5\ntensorboard: no\n"
    path.write_text(f"{NEEDED}tasks: [rte]\n{numbers}")
    found = load_config(path)
    assert (found.seed, found.learning_rate, found.weight_decay, found.max_length) == (0, 0.01, 0.001, 64)
    assert (found.epochs, found.tensorboard) == (1.5, False)


def test_anchors_and_merge_keys_stay(tmp_path):
    path = tmp_path / "c.yaml"
    tasks = """tasks:
  a: &a {columns: t, label: x, labels: [y, n]}
  b: &b {<<: *a, label: z}
  c:
    <<: *b
    columns: u
"""
    path.write_text(NEEDED + tasks)
    specs = specs_of(load_config(path).tasks).values()
    assert [(*spec.columns, spec.label_column) for spec in specs] == [("t", "x"), ("t", "z"), ("u", "z")]


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"Epochs": 3}, "did you mean 'epochs'"),
        ({"max-length": 3}, "did you mean 'max_length'"),
        ({"prototype": {"methd": "lora"}}, "did you mean 'method'"),
        ({"prototype": {"method": "loar"}}, "did you mean 'lora'"),
        ({"prototype": {"masks": "hybird"}}, "did you mean 'hybrid'"),
        ({"precision": "f16"}, "did you mean 'fp16'"),
        ({"device": "CPU"}, "did you mean 'cpu'"),
        ({"tasks": ["sst-2"]}, "did you mean 'sst2'"),
        ({"tasks": {"m": {"columns": "t", "lables": ["a", "b"]}}}, "did you mean 'labels'"),
        ({"tasks": {"m": {"column": "t", "labels": ["a", "b"]}}}, "did you mean 'columns'"),
        ({"tasks": {"m": {"columns": "t", "train": "x", "lables": ["a", "b"]}}}, "did you mean 'labels'"),
        ({"tasks": {"m": {"columns": "t", "problem": "taging"}}}, "did you mean 'tagging'"),
        ({"tasks": {"m": {"columns": "t", "labels": ["a", "b"], "metrics": "acuracy"}}}, "did you mean 'accuracy'"),
        ({"tasks": {"m": {"columns": "t", "problem": "text", "promt": "{}"}}}, "did you mean 'prompt'"),
        ({"tasks": {"rte": {"langauge": "en"}}}, "did you mean 'language'"),
    ],
)
def test_the_nearest_name_at_every_level(tmp_path, changes, hint):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"backbone": "b", "data": "d", "output": "o", "tasks": ["rte"]} | changes))
    with pytest.raises(ConfigurationError, match=hint):
        load_config(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prototype": {"bottleneck": True}},
        {"prototype": {"sparsity": True}},
    ],
)
def test_a_flag_is_no_number_of_the_method(tmp_path, wrong):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"backbone": "b", "data": "d", "output": "o", "tasks": ["rte"]} | wrong))
    with pytest.raises(ConfigurationError, match=r"prototype: .*: a number or a word is due"):
        load_config(path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/no/such/folder", "there is no such folder"),
        ("./nothing", "there is no such folder"),
        ("a\0b", "there is no such folder"),
        ("package:no_such_package_here/model", "is not installed"),
        ("package:os.path/model", "a name without dots"),
        ("package:yaml/../yaml", "no folder inside the package"),
        ("package:yaml/nothing", "there is no such folder"),
    ],
)
def test_a_backbone_that_is_nowhere(tmp_path, name, reason):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"backbone": name, "data": "d", "output": "o", "tasks": ["rte"]}))
    with pytest.raises(ConfigurationError, match=f"^{path}: backbone .*{reason}"):
        load_config(path)


@pytest.mark.parametrize(("key", "hint"), [("protoype.rank", "'prototype'"), ("prototype.rnk", "'rank'")])
def test_the_nearest_name_of_a_setting(path, key, hint):
    with pytest.raises(ConfigurationError, match=f"did you mean {hint}"):
        load_config(path, {key: 3})


def test_the_nearest_name_of_a_chosen_task(path):
    with pytest.raises(ConfigurationError, match=r"--task: 'onw' .* did you mean 'own'"):
        load_config(path, only=["onw"])


@pytest.mark.parametrize("settings", [["seed=1", "seed=2"], ["tasks={a: , a: }"], ["seed=" + "9" * 5000]])
def test_settings_are_read_as_strictly(settings):
    with pytest.raises(ConfigurationError) as error:
        parse_settings(settings)
    assert "--set" in str(error.value)


def test_a_value_that_grows_without_end_is_shown_short(tmp_path):
    path = tmp_path / "c.yaml"
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30))
    path.write_text(NEEDED + "l0: &l0 [x]\n" + levels + "tasks: [rte]\nepochs: *l29\n")
    with pytest.raises(ConfigurationError) as error:
        load_config(path)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "arguments", [["train", "c.yaml"], ["train", "c.yaml", "--set", "a=["], ["reproduce", "x", "--configs", "."]]
)
def test_a_mistake_is_reported_before_torch_is_imported(tmp_path, arguments):
    (tmp_path / "c.yaml").write_text(NEEDED + "tasks: [rte]\nepoch: 3\n")
    (tmp_path / "sets.yaml").write_text("x: {title: t, seeds: [1], rows: [{name: r, config: c.yaml}]}\n")
    code = (
        "import sys; from propetl.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(sorted({'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stdout == "[]\n"
    assert ran.stderr.count("\n") == 1
