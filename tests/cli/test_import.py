import pytest
import torch
from click.testing import CliRunner

from propetl.bundle import read_bundle
from propetl.cli.main import main
from tests.propetl.reference_import import reference_files as reference


@pytest.fixture
def bring_in(tmp_path):
    backbone = reference.backbone_in(tmp_path)

    def run(folder, *arguments):
        fixed = ["import", str(folder), "-o", str(tmp_path / "bundle"), "--backbone", backbone.info.name]
        return CliRunner().invoke(main, [*fixed, *arguments])

    return run


def test_writes_a_bundle_and_says_what_was_made_of_it(bring_in, tmp_path):
    result = bring_in(reference.adapter_files(tmp_path / "rte").save())
    assert result.exit_code == 0, result.stderr
    for part in ("adapter, masked, keeps 0.5; head own; rte", "every tensor was mapped", "--max-length", "written to"):
        assert part in result.stdout
    assert set(read_bundle(tmp_path / "bundle").packs) == {"rte"}


def test_names_what_has_no_place(bring_in, tmp_path):
    files = reference.lora_files(tmp_path / "rte")
    files.weights["roberta.strange[tensor]"] = torch.zeros(1)
    result = bring_in(files.save(), "--task", "mine", "--column", "text")
    assert result.exit_code == 0, result.stderr
    assert "not mapped, 1 tensors:\n  pytorch_adapter.bin: roberta.strange[tensor]\n" in result.stdout
    assert "task mine has the columns text (--column)" in result.stdout


def test_wrong_input_is_one_line(bring_in, tmp_path):
    result = bring_in(tmp_path / "nothing")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("propetl: error: ")
    assert "no checkpoint of the reference code is there" in result.stderr
    assert not (tmp_path / "bundle").exists()
