"""Every configuration of examples/paper trains for a few steps, and holds the paper's values."""

import pytest

from propetl.bundle import read_bundle
from propetl.prototypes.spec import PrototypeConfig
from propetl.reproduce.sets import read_sets
from propetl.training.config_file import load_config
from propetl.training.run import train
from propetl.training.tasks import specs_of
from tests.propetl.reproduce.conftest import CONFIGS, SMALL

FILES = sorted(path.name for path in CONFIGS.glob("*.yaml") if path.name != "sets.yaml")
GLUE = ["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"]


@pytest.mark.parametrize("file", FILES)
def test_it_runs(file, request, tmp_path):
    backbone = request.getfixturevalue("t5" if file.startswith("t5-") else "roberta")
    data = request.getfixturevalue("texts" if "xsum" in file or "ro-en" in file else "glue")
    places = {"backbone": backbone, "data": data, "output": str(tmp_path / "run")}
    config = load_config(CONFIGS / file, {**SMALL, **places})
    (result,) = train(config)
    assert result.steps == 2
    bundle = read_bundle(result.bundle)
    assert set(bundle.packs) == set(config.tasks)
    assert bundle.info.prototype == config.prototype


def test_no_two_examples_write_into_one_folder():
    files = [path for path in CONFIGS.parent.rglob("*.yaml") if path.name != "sets.yaml"]
    outputs = {path: load_config(path).output for path in files}
    assert len(set(outputs.values())) == len(files) > 20
    for path in files:
        if path.parent == CONFIGS:
            assert outputs[path].name == path.stem


def test_no_two_experiments_of_the_sets_write_into_one_folder():
    """Sets share the runs that are the same in all of them: a folder is of one configuration with its changes."""
    rows = [row for one in read_sets(CONFIGS).sets.values() for row in one.rows]
    meant = {row.folder: (row.config, row.overrides) for row in rows}
    assert all(meant[row.folder] == (row.config, row.overrides) for row in rows)


def test_every_file_is_in_a_set_and_every_set_has_its_files():
    sets = read_sets(CONFIGS).sets
    named = {row.config for one in sets.values() for row in one.rows}
    assert named == set(FILES)


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("roberta-")])
def test_what_all_encoder_runs_share(file):
    config = load_config(CONFIGS / file)
    assert (config.backbone, list(config.tasks), config.head) == ("roberta-base", GLUE, "own")
    assert (config.batch_size, config.max_length, config.weight_decay, config.warmup_ratio) == (128, 128, 0.1, 0.1)
    assert (config.rate, config.epochs, config.seed) == (1e-4, 10, 42)


@pytest.mark.parametrize(
    ("file", "sparsity", "score_rate"),
    [("proadapter", 0.5, 3e-3), ("prolora", 0.1, 3e-2), ("proprefix", 0.1, 1e-4)],
)
def test_what_each_method_is_trained_with(file, sparsity, score_rate):
    config = load_config(CONFIGS / f"roberta-{file}.yaml")
    prototype = config.prototype
    assert (prototype.sparsity, config.score_rate, prototype.sharing) == (sparsity, score_rate, "masked")
    assert (prototype.bottleneck if file == "proadapter" else 64) == 768 // 12
    assert (prototype.rank, prototype.alpha) == (32, 48)
    assert (prototype.prefix_length, prototype.prefix_hidden) == (64, 512)


@pytest.mark.parametrize(
    ("file", "width"), [("t5-base-propetl-12", 64), ("t5-base-propetl-16", 48), ("t5-3b-propetl-128", 8)]
)
def test_what_t5_is_trained_with_on_glue(file, width):
    config = load_config(CONFIGS / f"{file}.yaml")
    prototype = config.prototype
    assert config.backbone == file.partition("-propetl")[0]
    assert (prototype.masks, prototype.combine, prototype.sparsity) == ("hybrid", "or", 0.3)
    assert (prototype.bottleneck, prototype.sites, prototype.activation) == (width, ("ffn",), "gelu_new")
    assert (config.rate, config.score_rate) == (3e-4, 3e-3)
    assert config.batch_size * config.gradient_accumulation == 128
    assert (config.temperature, config.label_smoothing, config.max_steps) == (10, 0.1, 20000)
    assert sorted(config.tasks) == sorted(GLUE)


@pytest.mark.parametrize(
    ("adapter", "propetl"), [("t5-base-adapter-12", "t5-base-propetl-12"), ("t5-3b-adapter-128", "t5-3b-propetl-128")]
)
def test_the_baseline_of_many_tasks_is_one_adapter_per_layer_for_all_of_them(adapter, propetl):
    """As the authors' ``normal_pfeiffer_adapter``: every task maps to one ``common_adapter``, layers share nothing."""
    baseline, ours = (load_config(CONFIGS / f"{file}.yaml") for file in (adapter, propetl))
    assert baseline.prototype == PrototypeConfig(
        "adapter", "tasks", bottleneck=ours.prototype.bottleneck, activation="gelu_new"
    )
    other = {"prototype", "output", "score_learning_rate"}
    assert baseline.model_dump(exclude=other) == ours.model_dump(exclude=other)


@pytest.mark.parametrize(
    ("file", "rate", "metric"), [("t5-base-xsum", 1e-4, "rouge1"), ("t5-base-ro-en", 3e-4, "bleu")]
)
def test_what_t5_is_trained_with_on_texts(file, rate, metric):
    config = load_config(CONFIGS / f"{file}.yaml")
    prototype = config.prototype
    assert (prototype.bottleneck, prototype.sparsity, prototype.masks) == (768, 0.5, "layer")
    assert (config.rate, config.label_smoothing) == (rate, 0.1)
    assert config.score_rate == pytest.approx(10 * rate)
    (spec,) = specs_of(config.tasks).values()
    assert spec.metric == metric


def test_small_tasks_train_twice_as_long():
    for row in read_sets(CONFIGS).sets["glue-roberta"].rows:
        assert row.separate
        assert row.by_task == {task: {"epochs": 20} for task in ("cola", "mrpc", "stsb", "rte")}
        assert row.paper["average"][0] == pytest.approx(_mean(row.paper), abs=0.006)


def _mean(paper):
    """Over every number, as the paper's code takes it: two of a task count twice."""
    values = [value for task, numbers in paper.items() for value in numbers if task != "average"]
    return sum(values) / len(values)
