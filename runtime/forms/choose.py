"""Which form to run, and its class."""

from collections.abc import Callable

from propetl.errors import ArtifactError, ConfigurationError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import EngineOptions, can_stage
from propetl.runtime.forms import RunningForm
from propetl.runtime.forms.applied import DEFAULT_TASK_MEMORY
from propetl.runtime.forms.bank import BankForm
from propetl.runtime.forms.folded import FoldedForm
from propetl.runtime.forms.generating import generating_form
from propetl.runtime.forms.staged import StagedForm
from propetl.runtime.forms.staged_generating import StagedGeneratingForm
from propetl.runtime.forms.switchable import SwitchableForm
from propetl.runtime.signatures import BANK, FOLDED, SWITCHABLE

_CLASSES: dict[str, Callable[[Artifact, EngineOptions], RunningForm]] = {
    SWITCHABLE: SwitchableForm,
    FOLDED: FoldedForm,
    BANK: BankForm,
}


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
        if staged:
            return StagedGeneratingForm(artifact, form, options, task_memory)
        return generating_form(artifact, form, options)
    return StagedForm(artifact, form, options, task_memory) if staged else _CLASSES[form](artifact, options)


def runs_staged(artifact: Artifact, form: str, options: EngineOptions) -> bool:
    """Whether ``form`` has two stages that the provider can run."""
    stages = artifact.manifest.forms[form].stages
    return stages is not None and can_stage(artifact, stages, options)
