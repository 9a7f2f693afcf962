"""Parity with PyTorch on rows of real tables: what it finds, and which bundles it takes."""

import numpy as np
import pytest
import torch

from propetl.backbone import load_backbone
from propetl.bundle import add_task, read_bundle, write_bundle
from propetl.data.generated import GENERATED, write_generated
from propetl.errors import ArtifactError
from propetl.export.options import ExportOptions
from propetl.export.parity import compare
from propetl.export.writer import export_bundle
from propetl.harvest import bundle_contents
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from tests.tiny_backbone import tiny_backbone
from tests.tiny_bundle import random_task, sample_rows

ROWS = 12
TASKS = ("verdict", "roles")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "generated"
    write_generated(folder, TASKS, train_rows=4, dev_rows=ROWS)
    return folder


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return load_backbone(str(tiny_backbone(tmp_path_factory.mktemp("backbone") / "model", layers=1)))


def write_random_bundle(folder, backbone, seed=0):
    """A bundle of generated tasks; its prototype is large enough to show in the logits."""
    specs = {task: GENERATED[task] for task in TASKS}
    model = ProPETLModel(backbone, PrototypeConfig(bottleneck=4), "linear", specs, seed).eval()
    with torch.no_grad():
        for parameter in model.prototype.parameters():
            parameter.normal_(std=0.3)
    rows = sample_rows(np.random.default_rng(0))
    write_bundle(folder, bundle_contents(model, 48, dict.fromkeys(TASKS, rows), {}))
    return folder


@pytest.fixture
def bundle(tmp_path, backbone):
    return write_random_bundle(tmp_path / "bundle", backbone)


@pytest.fixture
def artifact(bundle, tmp_path):
    export_bundle(bundle, tmp_path / "artifact", ExportOptions(forms=("switchable", "bank")))
    return tmp_path / "artifact"


def test_every_task_and_form_is_compared_on_every_row(artifact, bundle, data):
    found = list(compare(artifact, bundle, str(data), threads=1))
    assert {(item.task, item.form, item.batching) for item in found} == {
        *((task, form, "batch") for task in TASKS for form in ("switchable", "bank")),
        *((task, "bank", "mixed tasks") for task in TASKS),
    }
    assert all(item.passed and item.rows == ROWS and item.max_abs < 1e-5 for item in found)
    assert all(item.metrics_artifact == item.metrics_reference != {} for item in found)


def test_a_task_added_to_the_bundle_since_does_not_matter(artifact, bundle, data):
    later = random_task(read_bundle(bundle).info.layout, 2, np.random.default_rng(3))
    add_task(bundle, "later", later)
    assert all(item.passed for item in compare(artifact, bundle, str(data), form="switchable", threads=1))


def test_a_bundle_with_another_prototype_is_refused(artifact, backbone, data, tmp_path):
    other = write_random_bundle(tmp_path / "other", backbone, seed=1)
    with pytest.raises(ArtifactError, match=r"another bundle than .*: prototype.*, tasks/verdict"):
        list(compare(artifact, other, str(data)))
