"""An imported encoder checkpoint computes what the reference's equations say, for every method."""

import json

import numpy as np
import pytest
import torch

from propetl.bundle import read_bundle
from propetl.errors import BundleError, ConfigurationError, TaskError
from propetl.model import ProPETLModel
from propetl.reference_import.convert import import_checkpoint
from propetl.reference_import.options import ImportOptions
from tests.export.random_artifact import random_inputs
from tests.propetl.reference_import import reference_files as reference

CASES = {
    "adapter": reference.adapter_files,
    "adapter, two sites": lambda folder: reference.adapter_files(folder, houlsby=True, kept=0.3),
    "adapter, unshared": lambda folder: reference.adapter_files(folder, shared=False),
    "lora": reference.lora_files,
    "lora, unshared": lambda folder: reference.lora_files(folder, shared=False),
    "prefix": reference.prefix_files,
    "prefix, unshared": lambda folder: reference.prefix_files(folder, shared=False),
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return reference.backbone_in(tmp_path_factory.mktemp("reference"))


@pytest.fixture
def bring_in(backbone, tmp_path):
    """Saves files, imports them and hands back what was reported, the bundle and its model."""

    def run(files, **options):
        chosen = ImportOptions(**{"backbone": backbone.info.name} | options)
        imported = import_checkpoint(files.save(), tmp_path / "bundle", chosen)
        bundle = read_bundle(tmp_path / "bundle")
        return imported, bundle, ProPETLModel.from_bundle(bundle, backbone)

    return run


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_the_references_equations(case, bring_in, backbone, tmp_path):
    files = CASES[case](tmp_path / "rte")
    imported, bundle, model = bring_in(files)
    assert imported.not_mapped == ()
    assert bundle.info.head == "own"
    assert bundle.info.prototype.sharing == ("unshared" if "unshared" in case else "masked")
    for rows, length, seed in [(1, 1, 0), (4, 9, 1), (3, 17, 2)]:
        arrays = random_inputs(("input_ids", "attention_mask"), seed, rows, length)
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        with torch.no_grad():
            found = model("rte", **inputs).logits
        np.testing.assert_allclose(found, files.logits(backbone.model, inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["adapter", "lora", "prefix"])
def test_layers_differ_by_their_masks(case, bring_in, backbone, tmp_path):
    """So that masks which were taken for one another, or not transposed, would be found out."""
    files = CASES[case](tmp_path / "rte")
    _, _, model = bring_in(files)
    inputs = {name: torch.ones(2, 7, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    files.extras = files.extras[1:] + files.extras[:1]
    with torch.no_grad():
        difference = model("rte", **inputs).logits - files.logits(backbone.model, inputs)
    assert difference.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (lambda folder: reference.adapter_files(folder, kept=0.5), 0.5),
        (lambda folder: reference.lora_files(folder, kept=0.1), 0.1),
        (reference.prefix_files, 0.3),
    ],
)
def test_the_sparsity_is_what_it_was_trained_with(make, kept, bring_in, tmp_path):
    _, bundle, _ = bring_in(make(tmp_path / "rte"))
    assert bundle.info.prototype.sparsity == kept


@pytest.mark.parametrize("shared", [True, False])
def test_layers_that_repeat_another_prefix_are_refused(shared, backbone, tmp_path):
    files = reference.prefix_files(tmp_path / "rte", shared=shared)
    (name,) = [name for name in files.weights if "layer.1" in name and name.endswith("control_trans.2.bias")]
    files.weights[name] = files.weights[name] + 1
    with pytest.raises(BundleError, match=r"control_trans.2.bias differs from .*share one prototype"):
        import_checkpoint(files.save(), tmp_path / "bundle", ImportOptions(backbone=backbone.info.name))


def test_glue_tasks_get_their_columns_and_metrics(bring_in, tmp_path):
    imported, bundle, _ = bring_in(reference.lora_files(tmp_path / "rte"))
    info = bundle.info.tasks["rte"]
    assert (info.columns, info.metrics) == (("sentence1", "sentence2"), ("accuracy",))
    assert info.labels == ("entailment", "not_entailment")
    assert bundle.samples("rte")["input_ids"].shape[0] == 4
    assert not any("--column" in line for line in imported.assumed)


def test_labels_follow_the_heads_order(bring_in, tmp_path):
    files = reference.lora_files(tmp_path / "rte")
    files.head_config["label2id"] = {"entailment": 1, "not_entailment": 0}
    _, bundle, _ = bring_in(files)
    assert bundle.info.tasks["rte"].labels == ("not_entailment", "entailment")


def test_a_task_of_another_name_takes_what_it_is_given(bring_in, tmp_path):
    files = reference.lora_files(tmp_path / "rte")
    imported, bundle, _ = bring_in(files, task="mine", columns=("premise", "claim"), max_length=16)
    assert bundle.info.tasks["mine"].columns == ("premise", "claim")
    assert bundle.info.max_length == 16
    assert any("premise, claim" in line for line in imported.assumed)


def test_a_regression_and_a_linear_head(bring_in, tmp_path):
    files = reference.lora_files(tmp_path / "rte")
    files.head_config |= {"num_labels": 1, "label2id": None, "layers": 1}
    weights = {"weight": torch.randn(1, reference.HIDDEN), "bias": torch.randn(1)}
    files.head = {f"heads.rte.1.{part}": value for part, value in weights.items()}
    _, bundle, model = bring_in(files, task="degree")
    assert (bundle.info.head, bundle.info.tasks["degree"].problem) == ("linear", "regression")
    inputs = {name: torch.ones(2, 7, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        found = model("degree", **inputs).logits
    np.testing.assert_allclose(found, files.logits(model.network, inputs), rtol=1e-5, atol=1e-5)


def test_the_run_folder_around_it_will_do(backbone, tmp_path):
    reference.lora_files(tmp_path / "run" / "rte").save()
    options = ImportOptions(backbone=backbone.info.name)
    assert import_checkpoint(tmp_path / "run", tmp_path / "bundle", options).info.tasks.keys() == {"rte"}
    reference.lora_files(tmp_path / "run" / "other").save()
    with pytest.raises(BundleError, match=r"several adapters \(other, rte\)"):
        import_checkpoint(tmp_path / "run", tmp_path / "again", options)


def test_masks_that_stand_there_as_scores(bring_in, backbone, tmp_path):
    """The reference writes scores where it keeps everything; another share can be named."""
    files = reference.lora_files(tmp_path / "rte")
    random = torch.Generator().manual_seed(0)
    files.masks = {name: torch.randn(mask.shape, generator=random) for name, mask in files.masks.items()}
    imported, bundle, _ = bring_in(files)
    assert bundle.info.prototype.sparsity == 1.0
    assert any("--sparsity" in line for line in imported.assumed)
    imported, bundle, _ = bring_in(files, sparsity=0.25, overwrite=True)
    assert bundle.info.prototype.sparsity == 0.25
    assert not any("--sparsity" in line for line in imported.assumed)


def test_what_has_no_place_is_named(bring_in, tmp_path):
    files = reference.adapter_files(tmp_path / "rte")
    files.weights["roberta.invertible_adapters.rte.F.0.weight"] = torch.zeros(2)
    files.head["heads.other.1.weight"] = torch.zeros(2)
    imported, _, _ = bring_in(files)
    assert imported.not_mapped == (
        "pytorch_adapter.bin: roberta.invertible_adapters.rte.F.0.weight",
        "pytorch_model_head.bin: heads.other.1.weight",
    )


class TestRefused:
    """In one line, before anything is written."""

    @pytest.fixture
    def refuse(self, backbone, tmp_path):
        def check(files, words, error=BundleError, **options):
            chosen = ImportOptions(**{"backbone": backbone.info.name} | options)
            with pytest.raises(error, match=words) as caught:
                import_checkpoint(files.save(), tmp_path / "out", chosen)
            assert "\n" not in str(caught.value)
            assert not (tmp_path / "out").exists()

        return check

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("original_ln_before", False),
            ("scaling", 4.0),
            ("scaling", "learned"),
            ("is_parallel", True),
            ("use_gating", True),
            ("phm_layer", True),
            ("leave_out", [1]),
            ("inv_adapter", "nice"),
        ],
    )
    def test_an_adapter_that_computes_something_else(self, refuse, tmp_path, key, value):
        files = reference.adapter_files(tmp_path / "rte")
        files.config[key] = value
        refuse(files, f"{key} is {json.dumps(value)}".replace("[", r"\["))

    def test_an_activation_that_is_not_known(self, refuse, tmp_path):
        files = reference.adapter_files(tmp_path / "rte")
        files.config["non_linearity"] = "leakyrelu"
        refuse(files, "non_linearity 'leakyrelu' .* known: relu")

    def test_a_union_of_methods(self, refuse, tmp_path):
        files = reference.adapter_files(tmp_path / "rte")
        files.config["architecture"] = "union"
        refuse(files, "architecture 'union'")

    def test_a_prototype_that_is_not_shared(self, refuse, tmp_path):
        files = reference.adapter_files(tmp_path / "rte")
        name = "roberta.encoder.layer.2.output.adapters.rte.adapter_up.weight"
        files.weights[name] = files.weights[name] + 1
        refuse(files, r"layer.2.output.* differs from .*layer.0.output.*share one prototype")

    def test_a_layer_that_is_missing(self, refuse, tmp_path):
        files = reference.lora_files(tmp_path / "rte")
        del files.weights["roberta.encoder.layer.1.attention.self.value.loras.rte.lora_B"]
        refuse(files, r"pytorch_adapter.bin: it has no tensor .*layer.1.attention.self.value")

    def test_a_mask_that_does_not_fit(self, refuse, tmp_path):
        files = reference.adapter_files(tmp_path / "rte")
        name = "roberta.encoder.layer.0.output.adapters_mask.rte.down_mask"
        files.masks[name] = files.masks[name].T
        refuse(files, r"down_mask has shape \[6, 24\], expected \[24, 6\]")

    def test_masks_that_keep_nothing(self, refuse, tmp_path):
        files = reference.adapter_files(tmp_path / "rte")
        files.masks = {name: torch.zeros_like(mask) for name, mask in files.masks.items()}
        refuse(files, "keep no weight")

    def test_a_head_of_three_layers(self, refuse, tmp_path):
        files = reference.adapter_files(tmp_path / "rte")
        files.head_config["layers"] = 3
        refuse(files, "3 layers")

    def test_a_head_with_another_activation(self, refuse, tmp_path):
        files = reference.adapter_files(tmp_path / "rte")
        files.head_config["activation_function"] = "relu"
        refuse(files, "its activation is 'relu', but the own head of roberta has 'tanh'")

    def test_labels_that_do_not_fit(self, refuse, tmp_path):
        files = reference.adapter_files(tmp_path / "rte")
        files.head_config["label2id"] = {"a": 0, "b": 1, "c": 2}
        refuse(files, "names 3 labels, but the head has 2 outputs")

    def test_a_name_that_no_task_may_have(self, refuse, tmp_path):
        refuse(reference.lora_files(tmp_path / "rte"), "task name 'My Task'", error=TaskError, task="My Task")

    def test_a_backbone_that_is_not_there(self, refuse, tmp_path):
        refuse(reference.lora_files(tmp_path / "rte"), "cannot be loaded", error=ConfigurationError, backbone="/none")

    @pytest.mark.parametrize("file", ["adapter_config.json", "head_config.json", "pytorch_model_head.bin"])
    def test_a_file_that_is_missing(self, backbone, tmp_path, file):
        folder = reference.lora_files(tmp_path / "rte").save()
        (folder / file).unlink()
        with pytest.raises(BundleError, match=file):
            import_checkpoint(folder, tmp_path / "out", ImportOptions(backbone=backbone.info.name))

    def test_options_out_of_range(self):
        for wrong in ({"sparsity": 0.0}, {"max_length": 3}, {"columns": ("a", "b", "c")}, {"combine": "xor"}):
            with pytest.raises(ConfigurationError, match="--"):
                ImportOptions(**wrong)
