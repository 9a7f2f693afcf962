"""A folded folder as transformers would have written it."""

import json
import os

import pytest
import transformers

from propetl.backbone import load_backbone
from propetl.export.transformers_layout import add_file, write_config
from propetl.families import FAMILIES
from tests.tiny_backbone import tiny_backbone
from tests.tiny_bundle import task_info


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.takes_heads])
def test_the_architecture_is_a_class_of_transformers(family, tmp_path):
    backbone = load_backbone(str(tiny_backbone(tmp_path / "backbone", family)))
    write_config(tmp_path, backbone, task_info(3))
    text = (tmp_path / "config.json").read_text()
    (architecture,) = json.loads(text)["architectures"]
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    assert type(model).__name__ == architecture and config.num_labels == 3
    assert str(tmp_path) not in text


def test_a_file_is_linked_unless_it_has_to_stand_alone(tmp_path):
    source = tmp_path / "source"
    source.write_text("content")
    add_file(source, tmp_path / "linked", standalone=False)
    add_file(source, tmp_path / "copied", standalone=True)
    assert (tmp_path / "linked").stat().st_ino == source.stat().st_ino != (tmp_path / "copied").stat().st_ino
    assert (tmp_path / "copied").read_text() == "content"


def test_where_links_are_unknown_there_is_a_copy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source").write_text("content")
    add_file(tmp_path / "source", tmp_path / "copied", standalone=False)
    assert (tmp_path / "copied").read_text() == "content"
