import json
import textwrap

import pytest
import yaml
from click.testing import CliRunner

from propetl.bundle import read_bundle
from propetl.cli.main import main
from propetl.cli.train import EXAMPLE_YAML
from propetl.prototypes.spec import PrototypeConfig
from propetl.training import fit, run
from propetl.training.config import TrainConfig
from propetl.training.config_file import config_from
from propetl.training.tasks import specs_of
from tests.tiny_backbone import tiny_backbone


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny_backbone(tmp_path_factory.mktemp("train") / "bert")


@pytest.fixture
def path(backbone, tmp_path):
    """A configuration of two small tasks."""
    for task, header, row in (("mood", "text", "{0}"), ("likes", "text\tother", "{0}\t{0}")):
        (tmp_path / "data" / task).mkdir(parents=True)
        for split in ("train", "dev"):
            rows = [f"{row.format('good man' if i % 2 else 'bad dog')}\t{i % 2}" for i in range(12)]
            (tmp_path / "data" / task / f"{split}.tsv").write_text("\n".join([f"{header}\tlabel", *rows, ""]))
    config = {
        "backbone": str(backbone),
        "prototype": {"bottleneck": 4},
        "tasks": {
            "mood": {"columns": "text", "labels": ["no", "yes"]},
            "likes": {"columns": ["text", "other"], "labels": ["no", "yes"]},
        },
        "data": str(tmp_path / "data"),
        "output": str(tmp_path / "run"),
        "max_steps": 2,
        "batch_size": 4,
        "threads": 1,
        "device": "cpu",
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    return tmp_path / "c.yaml"


@pytest.fixture
def trained(monkeypatch):
    """Calls that reach training, which is not done."""
    calls = []
    monkeypatch.setattr(run, "train", lambda config, **manner: calls.append((config, manner)))
    return calls


def train(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


class TestHelp:
    def test_shows_the_example(self):
        result = CliRunner().invoke(main, ["train", "--help"], terminal_width=100)
        assert textwrap.indent(EXAMPLE_YAML, "  ").rstrip() in result.stdout
        assert max(map(len, EXAMPLE_YAML.splitlines())) <= 76

    def test_the_example_is_a_valid_configuration(self):
        config = config_from(yaml.safe_load(EXAMPLE_YAML), {}, "help")
        assert set(specs_of(config.tasks)) == {"rte", "reviews"}

    def test_the_example_is_complete(self):
        example = yaml.safe_load(EXAMPLE_YAML)
        assert list(example) == list(TrainConfig.model_fields)
        assert set(example["prototype"]) == set(PrototypeConfig().to_json())

    def test_the_example_shows_the_defaults(self):
        example = config_from(yaml.safe_load(EXAMPLE_YAML), {}, "help")
        needed = {"backbone": "b", "tasks": ["rte"], "data": "d", "output": "o"}
        default = config_from(needed, {}, "")
        chosen = {*needed, "early_stopping_patience"}
        assert example.model_dump(exclude=chosen | {"learning_rate", "score_learning_rate"}) == default.model_dump(
            exclude=chosen | {"learning_rate", "score_learning_rate"}
        )
        assert (example.rate, example.score_rate) == (default.rate, default.score_rate)


class TestOptions:
    def test_flags_win_over_set_and_set_over_the_file(self, path, trained):
        result = train(
            path, "--set", "seed=3", "--set", "prototype.sparsity=0.25", "--set", "epochs=9", "--seed", 4,
            "--epochs", 0.5, "--max-steps", 7, "--batch-size", 16, "--data", "elsewhere", "-o", "out",
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        ((config, _),) = trained
        assert (config.seed, config.prototype.sparsity, config.epochs, config.max_steps) == (4, 0.25, 0.5, 7)
        assert (config.batch_size, config.data, str(config.output)) == (16, "elsewhere", "out")
        assert config.prototype.bottleneck == 4

    def test_tasks_are_chosen(self, path, trained):
        assert train(path, "--task", "likes", "--task", "rte").exit_code == 0
        ((config, _),) = trained
        assert list(config.tasks) == ["likes", "rte"]
        assert config.tasks["likes"]["columns"] == ["text", "other"]

    def test_the_manner_is_passed_on(self, path, trained, tmp_path):
        train(path)
        train(path, "--resume", "--separate")
        train(path, "--overwrite", "--add-to", tmp_path / "bundle")
        manners = [{key: manner[key] for key in ("resume", "overwrite", "separate", "add_to")} for _, manner in trained]
        assert manners == [
            {"resume": False, "overwrite": False, "separate": False, "add_to": None},
            {"resume": True, "overwrite": False, "separate": True, "add_to": None},
            {"resume": False, "overwrite": True, "separate": False, "add_to": tmp_path / "bundle"},
        ]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--set", "seed"], "--set 'seed': write it as key=value"),
        (["--set", "sed=3"], "unknown key 'sed'; did you mean 'seed'?"),
        (["--set", "prototype.sparsity=3"], "sparsity"),
        (["--task", "mystery"], "'mystery' has no definition in the configuration"),
        (["--data", "/nowhere"], "/nowhere is not there"),
        (["--add-to", "/nowhere"], "/nowhere: no bundle is there"),
        (["--add-to", "/nowhere", "--separate"], "--separate and --add-to"),
        (["--resume", "--overwrite"], "--resume and --overwrite"),
    ],
)
def test_wrong_input_is_one_line(path, arguments, part):
    if "--add-to" in arguments and "--separate" not in arguments:
        arguments = [*arguments, "--task", "mood"]
    result = train(path, *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("propetl: error: ")
    assert result.stderr.count("\n") == 1
    assert part in result.stderr
    assert not (path.parent / "run").exists()


def test_a_missing_configuration(tmp_path):
    result = train(tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert "none.yaml: no such file" in result.stderr


def test_no_permission(path, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path / "run"))

    monkeypatch.setattr(fit, "prepare", refuse)
    result = train(path)
    assert result.exit_code == 2
    assert "no permission for" in result.stderr


def test_no_space_while_saving_keeps_what_was_complete(path, tmp_path, monkeypatch):
    """The disk fills up with the second checkpoint; the first one stays, and the run goes on from it."""
    from propetl.training import checkpoints

    real, calls = checkpoints.mark_complete, []

    def full(folder):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(folder)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "mark_complete", full)
        result = train(path, "--set", "save_every=1", "--set", "eval_every=2")
    assert result.exit_code == 2
    assert "no space left on the disk" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run" / "bundle").exists()
    result = train(path, "--set", "save_every=1", "--set", "eval_every=2", "--resume")
    assert result.exit_code == 0, result.stderr
    assert set(read_bundle(tmp_path / "run" / "bundle").packs) == {"mood", "likes"}


def test_the_whole_way(path, tmp_path):
    result = train(path)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    for part in ("step 2/2  average", "mood", "likes", "prototype, once", f"bundle: {tmp_path / 'run' / 'bundle'}"):
        assert part in result.stderr, part
    assert set(read_bundle(tmp_path / "run" / "bundle").packs) == {"mood", "likes"}
    assert json.loads((tmp_path / "run" / "train.json").read_text())["steps"] == 2
    again = train(path)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    resumed = train(path, "--resume")
    assert resumed.exit_code == 0
    assert "has ended already" in " ".join(resumed.stderr.split())  # lines are broken where the path is long
