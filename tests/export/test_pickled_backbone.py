"""A bundle over pickled weights: refused by every command that loads a backbone, unless reading them is asked for."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from propetl.cli.main import main
from propetl.errors import ConfigurationError
from propetl.export.eager import load_eager
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.bench.messages import Load, Vocabulary
from propetl.training.config import TrainConfig
from propetl.training.target import NewBundle
from tests.export.random_artifact import Case, random_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("pickled")
    random_bundle(root, Case("bert", PrototypeConfig(), layers=1))
    weights = root / "backbone" / "model.safetensors"
    torch.save(load_file(weights), root / "backbone" / "pytorch_model.bin")
    weights.unlink()
    return root


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, [*map(str, arguments)])
    return done.exit_code, done.stderr


def test_export(folder, tmp_path):
    code, line = run("export", folder / "bundle", "-o", tmp_path / "out")
    assert code == 2 and "pytorch_model.bin is pickled" in line.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
    code, line = run("export", folder / "bundle", "-o", tmp_path / "out", "--allow-pickle")
    assert code == 0, line


def test_train_and_reproduce(folder, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"backbone": str(folder / "backbone"), "tasks": ["verdict"], "data": str(tmp_path)}))
    for flags, found in (((), "is pickled"), (("--allow-pickle",), "verdict")):
        code, line = run("train", config, "-o", tmp_path / "run", *flags)
        assert code == 2 and found in line  # where the weights are read, the rows are looked for next
    settings = {"backbone": str(folder / "backbone"), "tasks": ["verdict"], "data": "none", "output": Path("run")}
    with pytest.raises(ConfigurationError, match="is pickled"):
        NewBundle(TrainConfig(**settings)).load_backbone()
    assert NewBundle(TrainConfig(**settings, allow_pickle=True)).load_backbone().info.layers == 1


def test_bench(folder):
    load = Load(str(folder / "bundle"), "eager", "two", "cpu", 1, Vocabulary(10, 0, ("input_ids",)))
    with pytest.raises(ConfigurationError, match="is pickled"):
        load_eager(load)
    assert load_eager(Load(**{**vars(load), "allow_pickle": True}))


@pytest.mark.parametrize("command", ["train", "reproduce", "import", "export", "validate", "bench"])
def test_every_command_has_the_flag(command):
    assert "--allow-pickle" in CliRunner().invoke(main, [command, "--help"]).output
