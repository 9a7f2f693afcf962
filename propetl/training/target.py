"""What a run trains and where the result goes: a bundle of its own, or one more task of one that is there."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from propetl.backbone import Backbone, load_backbone, load_backbone_of
from propetl.bundle import Bundle, add_task, read_bundle, write_bundle
from propetl.bundle.tensors import Arrays
from propetl.data.known import specs_of
from propetl.errors import ConfigurationError, TaskError
from propetl.files import sha256_of_bytes
from propetl.harvest import bundle_contents, task_contents
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.training.config import TrainConfig
from propetl.training.folder import RunFolder
from propetl.training.inputs import definitions_of
from propetl.training.result import Scores
from propetl.training.tasks import TrainingTask

Samples = Mapping[str, Arrays]


class Target(ABC):
    """Attributes:
    config: the run's configuration, settled by what it is trained for.
    identity: what a resumed run has to find unchanged beside its configuration, before any row is read.
    """

    config: TrainConfig
    identity: dict[str, Any]

    @abstractmethod
    def load_backbone(self) -> Backbone:
        """The backbone to train on."""

    @abstractmethod
    def model(self, backbone: Backbone, tasks: Sequence[TrainingTask]) -> ProPETLModel:
        """The model to train."""

    @abstractmethod
    def write(self, model: ProPETLModel, folder: RunFolder, samples: Samples, scores: Scores) -> Path:
        """Writes the result and returns the bundle's folder; doing it twice changes nothing."""


class NewBundle(Target):
    """A bundle of the run's own, in its folder."""

    def __init__(self, config: TrainConfig) -> None:
        """Settles the prototype's languages by those that the tasks name.

        Raises:
            ConfigurationError: some tasks name a language and others none, or masks are not hybrid.
        """
        self.config = with_languages(config)
        self.identity = {"tasks": definitions_of(specs_of(self.config.tasks))}

    def load_backbone(self) -> Backbone:
        """The one that the configuration names, before whose rows are read it is clear that the method fits it."""
        backbone = load_backbone(
            self.config.backbone, self.config.revision, allow_pickle=self.config.allow_pickle
        )
        backbone.info.layout(self.config.prototype)
        return backbone

    def model(self, backbone: Backbone, tasks: Sequence[TrainingTask]) -> ProPETLModel:
        """A fresh prototype, with fresh masks and heads for ``tasks``."""
        infos = {task.spec.name: task.spec for task in tasks}
        return ProPETLModel(backbone, self.config.prototype, self.config.head, infos, self.config.seed)

    def write(self, model: ProPETLModel, folder: RunFolder, samples: Samples, scores: Scores) -> Path:
        """Writes the whole bundle."""
        contents = bundle_contents(model, self.config.max_length, samples, scores)
        write_bundle(folder.bundle, contents, overwrite=True)
        return folder.bundle


class AddedTask(Target):
    """One more task of a bundle whose prototype stays as it is."""

    def __init__(self, config: TrainConfig, path: Path, *, fresh: bool) -> None:
        """Reads and checks the bundle at ``path``.

        Args:
            config: names one task; method, head and length are the bundle's.
            path: folder of the bundle.
            fresh: the run has not begun, so the bundle must not have the task yet.

        Raises:
            ConfigurationError: the configuration asks for another method than the bundle's, for several tasks, or
                for a language that the prototype has no masks of.
            TaskError: the bundle has a task of this name.
        """
        if len(config.tasks) != 1:
            raise ConfigurationError(f"--add-to adds one task, got {', '.join(config.tasks)}; choose one with --task")
        (self.task,) = config.tasks
        self.path = path
        bundle = read_bundle(path)
        if fresh and self.task in bundle.packs:
            raise TaskError(f"--add-to: task {self.task!r} is in {path} already; give the new one another name")
        self.bundle = _without(bundle, self.task)
        self.config = settled_by(config, bundle)
        _check_languages(self.config)
        bundle_of_others = {"bundle": str(path), "prototype_sha256": bundle.prototype_sha256}
        self.identity = {"add_to": bundle_of_others, "tasks": definitions_of(specs_of(self.config.tasks))}

    def load_backbone(self) -> Backbone:
        """The bundle's, wherever the configuration says that it is, with the bundle's tokenizer."""
        info = self.bundle.info.backbone
        elsewhere = self.config.backbone if self.config.backbone != info.name else None
        loaded = load_backbone_of(info, elsewhere, allow_pickle=self.config.allow_pickle)
        return loaded.with_tokenizer(self.bundle.tokenizer_folder)

    def model(self, backbone: Backbone, tasks: Sequence[TrainingTask]) -> ProPETLModel:
        """The bundle's model, frozen, with fresh masks and head for the new task."""
        model = ProPETLModel.from_bundle(self.bundle, backbone, seed=own_seed(self.config.seed, self.task))
        model.freeze()
        for task in tasks:
            model.add_task(task.spec.name, task.spec)
        if not model.trainable_state():
            kind = self.config.prototype
            shared = f"masks (masks: {kind.masks})" if kind.masked else f"weights (sharing: {kind.sharing})"
            raise ConfigurationError(
                f"--add-to: task {self.task!r} has nothing of its own to train: all tasks share their {shared}, "
                "and what answers in text has no head"
            )
        return model

    def write(self, model: ProPETLModel, folder: RunFolder, samples: Samples, scores: Scores) -> Path:
        """Adds the pack, unless this run has done so already before it was killed."""
        contents = task_contents(model, self.task, samples[self.task], scores[self.task])
        add_task(self.path, self.task, contents, again=True)
        return self.path


def with_languages(config: TrainConfig) -> TrainConfig:
    """``config`` with the languages that its tasks name, in their order, as those of the prototype.

    Raises:
        ConfigurationError: a task names none where others do, or one that the configuration leaves out.
    """
    named = [spec.language for spec in specs_of(config.tasks).values() if spec.language is not None]
    if named and not config.prototype.languages:
        prototype = dataclasses.replace(config.prototype, languages=tuple(dict.fromkeys(named)))
        config = config.model_copy(update={"prototype": prototype})
    _check_languages(config)
    return config


def _check_languages(config: TrainConfig) -> None:
    for name, spec in specs_of(config.tasks).items():
        config.prototype.check_language(name, spec.language)


def own_seed(seed: int, task: str) -> int:
    """A seed for one added task: with the run's own it would start from the scores of the bundle's first task."""
    return int(sha256_of_bytes(f"{seed} {task}".encode())[:15], 16)


def settled_by(config: TrainConfig, bundle: Bundle) -> TrainConfig:
    """``config`` with the method, head and length of ``bundle``, which a further task has to share.

    Raises:
        ConfigurationError: the configuration asks for something else.
    """
    info = bundle.info
    settled = {"prototype": info.prototype, "head": info.head, "max_length": info.max_length}
    for key, value in settled.items():
        if key in config.model_fields_set:
            _check_equal(key, getattr(config, key), value, bundle.path)
    return config.model_copy(update=settled)


def _check_equal(key: str, asked: Any, there: Any, bundle: Path) -> None:
    if isinstance(asked, PrototypeConfig):
        for name, value in asked.to_json().items():
            if name == "languages" and not value:
                continue  # those of the tasks that the prototype was trained with
            _check_equal(f"{key}.{name}", value, there.to_json()[name], bundle)
    elif asked != there:
        raise ConfigurationError(
            f"--add-to: {key} is {asked!r}, but {bundle} was trained with {there!r}; "
            f"leave {key.split('.')[0]} out of the configuration"
        )


def _without(bundle: Bundle, task: str) -> Bundle:
    """``bundle`` as it was before ``task`` was added."""
    packs = {name: pack for name, pack in bundle.packs.items() if name != task}
    infos = {name: info for name, info in bundle.info.tasks.items() if name != task}
    return dataclasses.replace(bundle, packs=packs, info=dataclasses.replace(bundle.info, tasks=infos))
