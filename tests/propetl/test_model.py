"""The model: what trains, what stays, and that a bundle gives back the model it was written from."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from propetl.bundle import read_bundle, write_bundle
from propetl.errors import BundleError, ConfigurationError, TaskError
from propetl.harvest import bundle_contents
from propetl.masks import kept_count
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.prototypes.task import MaskedPart
from tests.tiny_bundle import sample_rows, task_info

SMALL: dict[str, Any] = {"bottleneck": 3, "rank": 2, "prefix_length": 3, "prefix_hidden": 5}
KINDS: dict[str, Any] = {
    "masked": {},
    "unshared": {"sharing": "unshared"},
    "sparse": {"sharing": "sparse"},
    "hybrid": {"masks": "hybrid", "sparsity": 0.3},
    "languages": {"masks": "hybrid", "combine": "add", "languages": ("de", "en"), "sparsity": 0.3},
    "only-layers": {"masks": "only-layers"},
    "only-tasks": {"masks": "only-tasks"},
}
LEARNED = [
    *((method, kind) for method in ("adapter", "lora", "prefix", "ia3") for kind in ("masked", "unshared", "hybrid")),
    ("adapter", "languages"),
    ("lora", "sparse"),
    ("prefix", "only-layers"),
    ("lora", "only-tasks"),
]
EVERY = [*LEARNED, ("head", "masked"), ("full", "masked")]


def two_tasks(kind="masked"):
    languages = ("de", "en") if kind == "languages" else (None, None)
    return {"two": task_info(2, languages[0]), "value": task_info(0, languages[1])}


TWO = two_tasks()


def model_of(backbone, method="adapter", kind="masked", head="linear", tasks=None, seed=42):
    config = PrototypeConfig(method=method, **SMALL, **KINDS[kind])
    chosen = {"two": task_info(2)} if method == "full" else two_tasks(kind)
    return ProPETLModel(backbone, config, head, chosen if tasks is None else tasks, seed)


def train(model, text, steps=3, rate=0.05, tasks=None):
    """A few steps on every task (or those named), dropout included."""
    model.train()
    optimiser = torch.optim.AdamW((parameter for parameter in model.parameters() if parameter.requires_grad), lr=rate)
    for _ in range(steps):
        for task in tasks or model.tasks:
            info = model.infos[task]
            labels = torch.tensor([0.5, -1.0, 2.0]) if info.problem == "regression" else torch.tensor([0, 1, 0])
            optimiser.zero_grad()
            model(task, **text, labels=labels).loss.backward()
            optimiser.step()
    return model.eval()


def logits(model, text, task="two"):
    with torch.no_grad():
        return model(task, **text).logits


def bundle_of(model, path, **options):
    samples = {task: sample_rows(np.random.default_rng(0), ("input_ids", "attention_mask")) for task in model.tasks}
    write_bundle(path, bundle_contents(model, 24, samples, {"two": {"accuracy": 0.5}}), **options)
    return read_bundle(path)


class TestStart:
    @pytest.mark.parametrize(("method", "kind"), EVERY)
    def test_the_same_seed_gives_the_same_model_whatever_ran_before(self, bert, method, kind):
        first = model_of(bert, method, kind)
        torch.rand(123)
        second, other = model_of(bert, method, kind), model_of(bert, method, kind, seed=7)
        states = [model.trainable_state() for model in (first, second, other)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        assert not all(torch.equal(states[0][name], states[2][name]) for name in states[0])

    def test_a_state_is_not_changed_by_what_comes_after(self, bert):
        model = model_of(bert)
        state, name = model.trainable_state(), model.score_parameters()[0][0]
        before = state[name].clone()
        with torch.no_grad():
            model.get_parameter(name).add_(1.0)
        assert torch.equal(state[name], before)

    def test_making_a_model_draws_nothing_from_the_callers_generator(self, bert):
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        model_of(bert)
        assert torch.equal(torch.rand(3), expected)

    def test_tasks_start_from_scores_of_their_own(self, bert):
        """No score of one task stands anywhere in another's, nor in the prototype or a head."""
        state = model_of(bert).trainable_state()
        groups = [
            {value for name, tensor in state.items() if key in name for value in tensor.flatten().tolist() if value}
            for key in ("parts.task:two.", "parts.task:value.", "heads.task:two.", "heads.task:value.", "prototype.")
        ]
        assert all(groups)
        for index, group in enumerate(groups):
            assert all(len(group & other) < 3 for other in groups[index + 1 :])

    @pytest.mark.parametrize("name", ["values", "type", "a.b", "keys", "train", "0"])
    def test_any_good_name_is_a_task(self, bert, text, name):
        model = model_of(bert, tasks={name: task_info(3)})
        assert logits(model, text, name).shape == (3, 3) and model.tasks == (name,)

    def test_names_that_differ_in_a_dot_only(self, bert, text):
        model = model_of(bert, tasks={"a.b": task_info(2), "a-b": task_info(3), "a_b": task_info(4)})
        assert [logits(model, text, task).shape[1] for task in model.tasks] == [2, 3, 4]


class TestForward:
    def test_the_number_of_logits(self, bert, text):
        model = model_of(bert, tasks={str(outputs): task_info(outputs) for outputs in range(6)})
        assert [logits(model, text, str(outputs)).shape for outputs in range(6)] == [
            (3, max(1, outputs)) for outputs in range(6)
        ]

    def test_losses(self, bert, text):
        model = model_of(bert).eval()
        for task, labels in (("two", torch.tensor([0, 1, 1])), ("value", torch.tensor([0.5, -1.0, 2.0]))):
            found = model(task, **text, labels=labels)
            if task == "two":
                log = found.logits.exp() / found.logits.exp().sum(dim=1, keepdim=True)
                expected = -log[torch.arange(3), labels].log().mean()
            else:
                expected = (found.logits[:, 0] - labels).square().mean()
            torch.testing.assert_close(found.loss, expected)
        assert model("two", **text).loss is None

    def test_smoothed_labels_cost_more_than_certain_ones(self, bert, text):
        """Cross-entropy against 0.9 of the label and 0.1 spread over both classes; a regression has none."""
        model = model_of(bert).eval()
        labels, values = torch.tensor([0, 1, 1]), torch.tensor([0.5, -1.0, 2.0])
        plain = model("value", **text, labels=values).loss
        model.label_smoothing = 0.1
        found = model("two", **text, labels=labels)
        log = found.logits - found.logits.logsumexp(dim=1, keepdim=True)
        expected = -(0.9 * log[torch.arange(3), labels] + 0.1 * log.mean(dim=1)).mean()
        torch.testing.assert_close(found.loss, expected)
        assert torch.equal(model("value", **text, labels=values).loss, plain)

    def test_token_types_are_used_where_the_family_reads_them(self, backbone, text):
        model = model_of(backbone).eval()
        types = {"token_type_ids": (torch.arange(8) > 3).long().expand(3, 8) * text["attention_mask"]}
        same = torch.equal(logits(model, text), logits(model, text | types))
        assert same != backbone.family.takes_token_types

    @pytest.mark.parametrize("head", ["linear", "own"])
    @pytest.mark.parametrize(("method", "kind"), LEARNED)
    def test_padding_does_not_change_logits(self, backbone, text, method, kind, head):
        model = model_of(backbone, method, kind, head).eval()
        longer = {name: torch.nn.functional.pad(tensor, (0, 5)) for name, tensor in text.items()}
        torch.testing.assert_close(logits(model, text), logits(model, longer), rtol=1e-5, atol=1e-5)

    def test_with_no_weights_the_first_token_is_the_automodels(self, backbone, text):
        bare = AutoModel.from_pretrained(backbone.info.name).eval()
        with torch.no_grad():
            expected = bare(**text).last_hidden_state[:, 0]
            for method in ("adapter", "lora", "prefix", "ia3"):
                assert torch.equal(model_of(backbone, method).eval().pooled_state(None, text), expected)

    def test_an_unknown_task(self, bert, text):
        with pytest.raises(TaskError, match="task 'three' is not in this model; it has two, value"):
            model_of(bert)("three", **text)
        with pytest.raises(TaskError, match="it has none"):
            model_of(bert, tasks={})("three", **text)

    def test_a_failed_forward_leaves_no_weights_attached(self, bert, text):
        model = model_of(bert).eval()
        with pytest.raises(IndexError):
            model("two", **text | {"input_ids": text["input_ids"] + 1000})
        with torch.no_grad():
            assert torch.equal(model.pooled_state(None, text), bert.model(**text).last_hidden_state[:, 0])


class TestTraining:
    @pytest.mark.parametrize(("method", "kind"), [each for each in EVERY if each[0] != "full"])
    def test_the_backbone_is_untouched(self, backbone, text, method, kind):
        before = {name: tensor.numpy().tobytes() for name, tensor in backbone.model.state_dict().items()}
        model = model_of(backbone, method, kind)
        start = {name: tensor.clone() for name, tensor in model.trainable_state().items()}
        train(model, text, steps=2)
        assert before == {name: tensor.numpy().tobytes() for name, tensor in backbone.model.state_dict().items()}
        moved = [name for name, tensor in model.trainable_state().items() if not torch.equal(tensor, start[name])]
        assert set(moved) == set(start)

    def test_full_fine_tuning_trains_a_copy(self, bert, text):
        before = {name: tensor.numpy().tobytes() for name, tensor in bert.model.state_dict().items()}
        model = train(model_of(bert, "full"), text)
        assert before == {name: tensor.numpy().tobytes() for name, tensor in bert.model.state_dict().items()}
        assert not bert.model.embeddings.word_embeddings.weight.equal(model.network.embeddings.word_embeddings.weight)

    @pytest.mark.parametrize(("method", "kind"), EVERY)
    def test_groups_of_parameters(self, bert, method, kind):
        model = model_of(bert, method, kind)
        scores, others = dict(model.score_parameters()), dict(model.other_parameters())
        trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert set(scores) | set(others) == trainable and not set(scores) & set(others)
        assert bool(scores) == (kind != "unshared" and method in ("adapter", "lora", "prefix", "ia3"))
        assert all(".scores." in name for name in scores)
        backbone = {name for name in trainable if name.startswith("network.")}
        assert bool(backbone) == (method == "full")

    def test_masks_keep_their_count_while_they_train(self, bert, text):
        model = train(model_of(bert), text, rate=0.5)
        part = model.part_of("two")
        assert isinstance(part, MaskedPart)
        for mask in part.masks(model.shared_masks).values():
            assert mask.flatten(1).sum(dim=1).tolist() == [kept_count(mask[0].numel(), 0.5)] * 2

    def test_training_one_task_leaves_the_masks_of_the_other(self, bert, text):
        model = model_of(bert)
        before = model.part_of("value").packed_masks()
        train(model, text, tasks=["two"])
        assert all(np.array_equal(before[name], bits) for name, bits in model.part_of("value").packed_masks().items())

    @pytest.mark.parametrize("kind", ["hybrid", "languages"])
    def test_shared_scores_are_trained_once_and_by_every_task(self, bert, text, kind):
        model = model_of(bert, kind=kind)
        names = [name for name, _ in model.score_parameters()]
        owners = 3 if kind == "hybrid" else 5  # layers, two tasks, two languages
        assert len(names) == len(set(names)) == 2 * owners
        layers = {name: tensor.clone() for name, tensor in model.trainable_state().items() if ".layers." in name}
        for task in ("two", "value"):
            train(model, text, tasks=[task], steps=1)
            moved = {name: tensor.clone() for name, tensor in model.trainable_state().items() if name in layers}
            assert layers and all(not torch.equal(layers[name], moved[name]) for name in layers)
            layers = moved

    def test_a_language_is_trained_by_its_tasks_only(self, bert, text):
        model = model_of(bert, kind="languages")
        before = {name: model.shared_masks.language(name).packed() for name in ("de", "en")}
        train(model, text, tasks=["two"], steps=6, rate=0.5)
        after = {name: model.shared_masks.language(name).packed() for name in ("de", "en")}
        moved = [any(not np.array_equal(before[name][key], after[name][key]) for key in after[name]) for name in after]
        assert moved == [True, False]

    def test_dropout_can_be_set(self, bert, text):
        model = model_of(bert).train()
        assert not torch.equal(logits(model, text), logits(model, text))
        model.set_dropout(0.0)
        assert torch.equal(logits(model, text), logits(model, text))

    def test_two_models_of_one_backbone_do_not_meet(self, bert, text):
        one, other = model_of(bert, "prefix").eval(), model_of(bert, "adapter", seed=3).eval()
        before = logits(one, text)
        train(other, text)
        assert torch.equal(logits(one, text), before)


class TestState:
    def test_what_was_saved_comes_back(self, bert, text):
        model = train(model_of(bert), text)
        saved = {name: tensor.clone() for name, tensor in model.trainable_state().items()}
        expected = logits(model, text)
        fresh = model_of(bert, seed=9).eval()
        assert not torch.equal(logits(fresh, text), expected)
        fresh.load_trainable_state(saved)
        assert torch.equal(logits(fresh, text), expected)

    @pytest.mark.parametrize(
        "other",
        [
            {"method": "lora"},
            {"head": "own"},
            {"tasks": {"two": task_info(2)}},
            {"tasks": {"two": task_info(3), "value": task_info(0)}},
        ],
    )
    def test_a_state_of_another_configuration(self, bert, other):
        state = model_of(bert, **other).trainable_state()
        model = model_of(bert)
        before = {name: tensor.clone() for name, tensor in model.trainable_state().items()}
        with pytest.raises(ConfigurationError, match="the checkpoint is of another configuration"):
            model.load_trainable_state(state)
        assert all(torch.equal(before[name], tensor) for name, tensor in model.trainable_state().items())

    def test_a_state_of_other_sizes(self, bert):
        """Sizes that would broadcast must not slip through."""
        state = {name: tensor[..., :1] for name, tensor in model_of(bert).trainable_state().items()}
        with pytest.raises(ConfigurationError, match="the checkpoint is of another configuration"):
            model_of(bert).load_trainable_state(state)


class TestAddingATask:
    @pytest.mark.parametrize(("method", "kind"), LEARNED)
    def test_only_the_new_task_trains(self, bert, text, method, kind):
        model = model_of(bert, method, kind)
        model.freeze()
        before = logits(model.eval(), text)
        model.add_task("new", task_info(3, "en" if kind == "languages" else None))
        names = {name for name, _ in (*model.score_parameters(), *model.other_parameters())}
        assert names and all("task:new." in name for name in names)
        train(model, text, tasks=["new"])
        assert torch.equal(logits(model, text), before)

    @pytest.mark.parametrize(("kind", "language"), [("hybrid", "de"), ("languages", None), ("languages", "fr")])
    def test_a_language_without_masks(self, bert, kind, language):
        model = model_of(bert, kind=kind)
        with pytest.raises(ConfigurationError, match=f"task 'new': its language is {language!r}"):
            model.add_task("new", task_info(3, language))
        assert model.tasks == ("two", "value")

    def test_a_name_that_is_taken(self, bert, text):
        model = model_of(bert)
        before = logits(model.eval(), text)
        with pytest.raises(TaskError, match="task 'two' is in this model already"):
            model.add_task("two", task_info(5))
        assert torch.equal(logits(model, text), before)

    def test_a_name_that_cannot_be(self, bert):
        model = model_of(bert)
        with pytest.raises(TaskError, match="task name"):
            model.add_task("../two", task_info(2))
        assert model.tasks == ("two", "value")

    def test_full_fine_tuning_has_one_task(self, bert):
        with pytest.raises(ConfigurationError, match=r"full fine-tuning .*--separate"):
            model_of(bert, "full", tasks=TWO)

    def test_an_unknown_head(self, bert):
        with pytest.raises(ConfigurationError, match="head is one of linear, own; got 'three'"):
            model_of(bert, head="three")


class TestFromBundle:
    @pytest.mark.parametrize("head", ["linear", "own"])
    @pytest.mark.parametrize(("method", "kind"), EVERY)
    def test_it_is_the_model_that_was_written(self, bert, text, tmp_path, method, kind, head):
        model = train(model_of(bert, method, kind, head), text)
        again = ProPETLModel.from_bundle(bundle_of(model, tmp_path / "bundle"), bert)
        assert again.tasks == model.tasks and not again.training
        for task in model.tasks:
            assert torch.equal(logits(again, text, task), logits(model, text, task))
            assert again.infos[task].outputs == model.infos[task].outputs

    def test_on_every_family(self, backbone, text, tmp_path):
        for method, kind in LEARNED:
            model = train(model_of(backbone, method, kind), text, steps=1)
            again = ProPETLModel.from_bundle(bundle_of(model, tmp_path / f"{method}-{kind}"), backbone)
            assert torch.equal(logits(again, text), logits(model, text))

    def test_writing_it_again_gives_the_same_bytes(self, bert, text, tmp_path):
        model = train(model_of(bert), text)
        first = bundle_of(model, tmp_path / "first")
        second = bundle_of(ProPETLModel.from_bundle(first, bert), tmp_path / "second")
        assert first.info.files == second.info.files and first.sha256 == second.sha256

    @pytest.mark.parametrize("targets", [("query",), ("query", "key", "value")])
    def test_lora_merged_is_the_same_function(self, backbone, text, tmp_path, targets):
        config = PrototypeConfig(method="lora", targets=targets, **SMALL)
        model = train(ProPETLModel(backbone, config, tasks=TWO), text)
        bundle = bundle_of(model, tmp_path / "bundle")
        merged = ProPETLModel.from_bundle(bundle, backbone, merge=True)
        torch.testing.assert_close(logits(merged, text), logits(model, text), rtol=1e-5, atol=1e-5)

    def test_a_task_added_to_it_starts_from_its_own_seed(self, bert, tmp_path):
        bundle = bundle_of(model_of(bert), tmp_path / "bundle")
        states = []
        for seed in (1, 1, 2):
            model = ProPETLModel.from_bundle(bundle, bert, seed=seed)
            model.freeze()
            model.add_task("new", task_info(2))
            states.append(torch.cat([parameter.detach().flatten() for _, parameter in model.score_parameters()]))
        assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])

    @pytest.mark.parametrize("method", ["adapter", "full"])
    def test_another_backbone_is_refused(self, backbones, tmp_path, method):
        bundle = bundle_of(model_of(backbones["bert"], method), tmp_path / "bundle")
        with pytest.raises(BundleError, match=r"has fingerprint .* but the bundle was trained on"):
            ProPETLModel.from_bundle(bundle, backbones["electra"])

    def test_full_weights_that_do_not_fit(self, bert, tmp_path):
        bundle = bundle_of(model_of(bert, "full"), tmp_path / "bundle")
        for change in (
            {"backbone.embeddings.word_embeddings.weight": np.zeros((1, 1), np.float32)},
            {"backbone.extra": np.zeros(1, np.float32)},
        ):
            pack = dataclasses.replace(bundle.packs["two"], weights=bundle.packs["two"].weights | change)
            with pytest.raises(BundleError, match="the backbone's weights do not fit"):
                ProPETLModel.from_bundle(dataclasses.replace(bundle, packs={"two": pack}), bert)
