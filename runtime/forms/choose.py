"""Which form to run, and its class."""

from importlib import import_module

from propetl.errors import ArtifactError, ConfigurationError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import EngineOptions, can_stage
from propetl.runtime.forms import RunningForm
from propetl.runtime.signatures import BANK, FOLDED, SWITCHABLE

DEFAULT_TASK_MEMORY = 64 << 20
"""Bytes for what tasks need: of MiniLM with a bottleneck of 32, weights of 80 tasks and packs of 700."""

_CLASSES = {SWITCHABLE: "SwitchableForm", FOLDED: "FoldedForm", BANK: "BankForm"}
"""By form, in the module of its name: only the one that runs is imported."""


def choose_form(artifact: Artifact, form: str | None) -> str:
    """``form`` if the artifact has it; for None the first it has of switchable, folded, bank.

    Switchable comes first because it costs one engine for all tasks and takes new ones; folded is
    preferred to bank because it is faster where a batch has one task.

    Raises:
        ConfigurationError: the artifact has no such form.
        ArtifactError: it has none that a session can run.
    """
    if not artifact.forms:
        raise ArtifactError(f"{artifact.path}: it has no form that a session can run; export with --form")
    if form is None:
        return next(name for name in _CLASSES if name in artifact.forms)
    if form not in artifact.forms:
        known = ", ".join(artifact.forms)
        raise ConfigurationError(f"form {form!r} is not in {artifact.path}; it has {known}")
    return form


def open_form(
    artifact: Artifact, form: str, options: EngineOptions, task_memory: int = DEFAULT_TASK_MEMORY
) -> RunningForm:
    """Loads ``form``, which the artifact has: in two stages where it has them and the engine can run them."""
    staged = options.staged and runs_staged(artifact, form, options)
    if artifact.manifest.generation is not None:
        return _open_generating(artifact, form, options, task_memory if staged else None)
    if staged:
        from propetl.runtime.forms.staged import StagedForm

        return StagedForm(artifact, form, options, task_memory)
    running: RunningForm = getattr(import_module(f"propetl.runtime.forms.{form}"), _CLASSES[form])(artifact, options)
    return running


def _open_generating(artifact: Artifact, form: str, options: EngineOptions, task_memory: int | None) -> RunningForm:
    """The form of a backbone that generates; staged where ``task_memory`` is given."""
    if task_memory is None:
        from propetl.runtime.forms.generating import generating_form

        return generating_form(artifact, form, options)
    from propetl.runtime.forms.staged_generating import StagedGeneratingForm

    return StagedGeneratingForm(artifact, form, options, task_memory)


def runs_staged(artifact: Artifact, form: str, options: EngineOptions) -> bool:
    """Whether ``form`` has two stages that the provider can run."""
    stages = artifact.manifest.forms[form].stages
    return stages is not None and can_stage(artifact, stages, options)
