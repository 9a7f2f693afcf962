"""The Trainer's steps: who moves, at which rate, and what a checkpoint holds."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.training.arguments import training_arguments
from propetl.training.checkpoints import WEIGHTS, complete_checkpoints
from propetl.training.evaluate import AVERAGE
from propetl.training.optimizer import parameter_groups
from propetl.training.processes import Processes
from propetl.training.schedule import schedule_of
from propetl.training.tasks import load_tasks, tokenizer_of
from propetl.training.trainer import ProPETLTrainer


def groups_of(trainer):
    config = trainer.config
    return parameter_groups(trainer.network, config.rate, config.score_rate, config.weight_decay)


@pytest.fixture
def make_trainer(make_config, bert, tmp_path):
    """A trainer of a fresh model; ``scores`` replaces what evaluations find."""

    def make(scores=None, **changes):
        config = make_config(**changes)
        tasks = load_tasks(config, tokenizer_of(bert))
        infos = {task.spec.name: task.spec for task in tasks}
        model = ProPETLModel(bert, config.prototype, config.head, infos, config.seed)
        batches = sum(-(-len(task.train) // config.batch_size) for task in tasks)
        arguments = training_arguments(config, schedule_of(config, batches), tmp_path / "out", Processes())
        trainer = ProPETLTrainer(model, arguments, tmp_path / "out", tasks, config, Processes(), [])
        if scores is not None:
            turn = iter(scores)
            trainer.evaluate = lambda *_, **__: noted(trainer, next(turn))
        return trainer

    def noted(trainer, score):
        trainer.log({AVERAGE: score})
        trainer.control = trainer.callback_handler.on_evaluate(
            trainer.args, trainer.state, trainer.control, {AVERAGE: score}
        )
        return {AVERAGE: score}

    return make


def copied(trainer):
    return {name: tensor.clone() for name, tensor in trainer.network.trainable_state().items()}


def steps(trainer):
    return [checkpoint.step for checkpoint in complete_checkpoints(Path(trainer.args.output_dir))]


def test_only_what_the_batches_task_uses_moves(make_trainer):
    """Adam would move a parameter with a gradient of zero; here it has none."""
    trainer = make_trainer(tasks=("mood", "topic"), max_steps=1, warmup_ratio=0)
    before = copied(trainer)
    batch = next(iter(trainer.get_train_dataloader()))
    task = batch["shards"][0]["task"]
    trainer.train()
    after = trainer.network.trainable_state()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    other = {"mood": "topic", "topic": "mood"}[task]
    assert not any(f"task:{other}" in name for name in moved)
    assert {name for name in before if f"task:{task}" in name} <= moved
    assert {name for name in before if "task:" not in name} <= moved  # the prototype


def test_the_backbone_stays(make_trainer, bert):
    before = {name: tensor.clone() for name, tensor in bert.model.state_dict().items()}
    make_trainer(learning_rate=0.1).train()
    assert all(torch.equal(tensor, before[name]) for name, tensor in bert.model.state_dict().items())


def test_two_rates_and_no_decay_where_none_belongs(make_trainer):
    trainer = make_trainer(learning_rate=0.5, score_learning_rate=2.0, weight_decay=0.25, head="own")
    names = {parameter: name for name, parameter in trainer.network.named_parameters()}
    found = {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in groups_of(trainer)
        for parameter in group["params"]
    }
    assert set(found) == set(trainer.network.trainable_state())
    for name, rates in found.items():
        if ".scores." in name:
            assert rates == (2.0, 0.0), name
        elif name.endswith("bias"):
            assert rates == (0.5, 0.0), name
        else:
            assert rates == (0.5, 0.25), name


@pytest.mark.parametrize("method", ["adapter", "lora", "prefix", "ia3", "head"])
def test_methods_without_scores_have_no_group_for_them(make_trainer, method):
    trainer = make_trainer(prototype=PrototypeConfig(method=method, sharing="unshared").to_json())
    assert trainer.network.score_parameters() == []
    groups = groups_of(trainer)
    assert all(group["params"] and group["lr"] == trainer.config.rate for group in groups)


def test_full_fine_tuning_spares_norms_and_biases_from_decay(make_trainer):
    trainer = make_trainer(tasks=["mood"], prototype={"method": "full"})
    names = {parameter: name for name, parameter in trainer.network.named_parameters()}
    for group in groups_of(trainer):
        for parameter in group["params"]:
            name = names[parameter]
            assert (group["weight_decay"] == 0) == (name.endswith("bias") or "LayerNorm" in name), name


def test_a_checkpoint_holds_the_trainable_tensors_only(make_trainer):
    trainer = make_trainer(max_steps=2)
    trainer.train()
    (checkpoint,) = complete_checkpoints(Path(trainer.args.output_dir))
    saved = load_file(checkpoint.path / WEIGHTS)
    state = trainer.network.trainable_state()
    assert set(saved) == set(state)
    assert all(torch.equal(saved[name], state[name]) for name in state)
    assert not any("network" in name for name in saved)


def test_the_newest_and_the_best_checkpoint_stay(make_trainer):
    trainer = make_trainer(scores=[0.1, 0.7, 0.3, 0.2], eval_every=2, save_every=1, max_steps=8)
    trainer.train()
    assert steps(trainer) == [4, 8]
    assert trainer.state.best_global_step == 4


def test_a_new_best_is_saved_between_checkpoints(make_trainer):
    trainer = make_trainer(scores=[0.1, 0.7, 0.3], eval_every=3, save_every=7, max_steps=9)
    trainer.train()
    assert steps(trainer) == [6, 9]


def test_the_last_step_is_evaluated_and_saved(make_trainer):
    trainer = make_trainer(scores=[0.1, 0.2], eval_every=3, save_every=4, max_steps=5)
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if AVERAGE in entry] == [3, 5]
    assert steps(trainer) == [5]


def test_patience_ends_the_run_with_a_checkpoint(make_trainer):
    scores = [0.1, 0.7, 0.3, 0.7, 0.9]
    trainer = make_trainer(scores=scores, eval_every=1, save_every=9, max_steps=9, early_stopping_patience=2)
    trainer.train()
    assert trainer.state.global_step == 4  # an equal score is not a better one
    assert steps(trainer) == [4]


def test_of_equal_scores_the_newest_is_the_best(make_trainer):
    """It has been trained longest."""
    trainer = make_trainer(scores=[0.1, 0.7, 0.7, 0.3], eval_every=1, save_every=9, max_steps=4)
    trainer.train()
    assert trainer.state.best_global_step == 3
    assert steps(trainer) == [3, 4]


def test_shards_add_up_to_the_whole_batch(make_trainer):
    """Without dropout, what a step learns does not depend on the shards but by rounding."""
    states = []
    for shards in (1, 2, 4):
        trainer = make_trainer(dropout=0.0, shards=shards, max_steps=3, output=f"unused{shards}")
        trainer.network.set_dropout(0.0)
        trainer.train()
        states.append(copied(trainer))
    for other in states[1:]:
        for name, tensor in states[0].items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5)


def test_accumulation_adds_up_to_the_larger_batch(make_trainer):
    """Two batches of one task and equal size, accumulated, are one batch of twice the size."""
    losses = []
    for batch_size, accumulation in ((8, 1), (4, 2)):
        trainer = make_trainer(
            tasks=["mood"],
            batch_size=batch_size,
            gradient_accumulation=accumulation,
            group_by_length=False,
            max_steps=3,
        )
        trainer.network.set_dropout(0.0)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_dropout_differs_by_step_shard_and_seed_and_nothing_else(make_trainer):
    trainer = make_trainer(shards=2)
    seeds = {}
    for step in (0, 1):
        trainer.state.global_step = step
        for batch in (0, 1):
            trainer._place_in_step()
            trainer._batch_of_step = batch
            for place in (0, 1):
                seeds[step, batch, place] = trainer._dropout_seed(place, 2)
    assert len(set(seeds.values())) == 8
    again = make_trainer(shards=2)
    assert again._dropout_seed(1, 2) == seeds[0, 0, 1]
    assert make_trainer(shards=2, seed=1)._dropout_seed(1, 2) != seeds[0, 0, 1]
    again.processes = Processes(1, 2)  # the second process computes the second shard
    assert again._dropout_seed(0, 1) == seeds[0, 0, 1]
