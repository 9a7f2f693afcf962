"""An artifact tests itself on the device it is to run on, without PyTorch."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

from propetl.errors import AnswerError, ArtifactError, BackendError, BundleError, TaskError
from propetl.runtime.artifact import Artifact, read_manifest, verify_artifact_files
from propetl.runtime.engines import ENGINE_PACKAGES, EngineOptions, load_engine
from propetl.runtime.engines.ort import onnxruntime_of
from propetl.runtime.engines.precision import computed_precision
from propetl.runtime.engines.providers import PROVIDERS
from propetl.runtime.forms import MixingForm, RunningForm
from propetl.runtime.forms.choose import choose_form, open_form, runs_staged
from propetl.runtime.golden import Golden
from propetl.runtime.replay import replay_mixed, replay_task
from propetl.runtime.report import TOLERANCES, Check, Comparison, Report
from propetl.runtime.signatures import BARE
from propetl.runtime.tuned import read_tuned, this_device

_DAMAGE = (ArtifactError, BundleError, TaskError)
_LIBRARIES = ("propetl", "numpy", "tokenizers", *ENGINE_PACKAGES)


def self_test(
    path: Path | str,
    form: str | None = None,
    provider: str = "cpu",
    threads: int | None = None,
    *,
    device: int = 0,
    engine_cache: Path | None = None,
    precision: str | None = None,
) -> Report:
    """Checks files, task packs, signatures of the loaded graphs, and golden outputs of every task and form.

    Golden rows are run in one batch, row by row without padding, and in form bank all tasks mixed.

    Args:
        path: folder of the artifact.
        form: the only form to look at; None for all.
        provider: what runs it.
        threads: threads inside one operator; None for all cores.
        device: number of the GPU, for providers that run on one.
        engine_cache: folder for engines that a provider builds here; None for the user's cache folder.
        precision: which of several engines a provider of plans runs; None for the first.

    Returns:
        What was found; a difference is in the report, not raised.

    Raises:
        ArtifactError: the manifest itself cannot be used, so there is nothing to check.
        BackendError: the provider is not there.
        ConfigurationError: no such form.
    """
    options = EngineOptions(provider, threads, device=device, engine_cache=engine_cache, precision=precision)
    artifact = read_manifest(Path(path))
    forms = artifact.forms if form is None else (choose_form(artifact, form),)
    checks = [_check("files", "the artifact", partial(verify_artifact_files, artifact))]
    comparisons: list[Comparison] = []
    if checks[0].passed:  # nothing is used before its hash was checked
        checks += _tuned_checks(artifact, provider)
        goldens = _goldens(artifact, checks)
        for name in forms:
            for way, label in _ways(artifact, name, options):
                comparisons += _form_comparisons(artifact, name, label, way, goldens, checks)
        if form is None:
            _check_bare(artifact, options, checks)
    computed = computed_precision(artifact.manifest, options)
    return Report(str(path), provider, computed, tuple(checks), tuple(comparisons), _versions())


def _tuned_checks(artifact: Artifact, provider: str) -> list[Check]:
    """Whether tuned graphs are those that run; that they are for another device is no fault, but worth a word."""
    tuned = read_tuned(artifact.path)
    if tuned is None or not PROVIDERS[provider].tuned:
        return []
    reason = tuned.mismatch(artifact.path, this_device(onnxruntime_of(provider).__version__))
    detail = "" if reason is None else f"not used here: {reason}; run propetl tune again"
    return [Check("tuned graphs", "this device", True, detail)]


def _ways(artifact: Artifact, form: str, options: EngineOptions) -> Iterator[tuple[EngineOptions, str]]:
    """The ways in which ``form`` can be run here, and what reports call them."""
    yield options, form
    if runs_staged(artifact, form, options):
        yield replace(options, staged=False), f"{form}, one graph"


def _check(name: str, subject: str, action: Callable[[], object]) -> Check:
    try:
        action()
    except _DAMAGE as error:
        return Check(name, subject, False, str(error))
    return Check(name, subject, True)


def _goldens(artifact: Artifact, checks: list[Check]) -> dict[str, Golden]:
    """Golden rows by task; checks packs and golden rows on the way."""
    goldens: dict[str, Golden] = {}
    for task in artifact.manifest.tasks:
        checks.append(_check("task pack", task, partial(artifact.pack, task)))
        try:
            goldens[task] = artifact.golden(task)
            checks.append(_golden_width(artifact, task, goldens[task]))
        except ArtifactError as error:
            checks.append(Check("golden rows", task, False, str(error)))
    return goldens


def _golden_width(artifact: Artifact, task: str, golden: Golden) -> Check:
    generation = artifact.manifest.generation
    info = artifact.task(task).info
    expected = info.outputs if generation is None else generation.vocabulary
    found = golden.logits.shape[-1]
    detail = "" if expected == found else f"logits are {found} wide, the task has {expected}"
    if golden.logits.ndim != len(info.kind.axes) + 1:
        of = "tokens" if info.kind.answers_words else "rows"
        detail = f"logits are {list(golden.logits.shape)}, expected those of {of}"
    return Check("golden rows", task, not detail, detail)


def _form_comparisons(
    artifact: Artifact,
    form: str,
    label: str,
    options: EngineOptions,
    goldens: dict[str, Golden],
    checks: list[Check],
) -> list[Comparison]:
    """Loads ``form`` and runs the golden rows through it; what cannot be loaded becomes a failed check."""
    try:
        running = open_form(artifact, form, options)
        loaded = [task for task in running.tasks() if _checked_engines(running, task, checks)]
    except _DAMAGE as error:
        checks.append(Check("loading", f"form {label}", False, str(error)))
        return []
    chosen = {task: goldens[task] for task in loaded if task in goldens}
    tolerance = TOLERANCES[computed_precision(artifact.manifest, options)]
    runs = {f"task {task}, form {label}": replay_task(running, label, task, chosen[task], tolerance) for task in chosen}
    if isinstance(running, MixingForm) and chosen:
        mixed = replay_mixed(running, label, chosen, artifact.manifest.pad_token_id, tolerance)
        runs[f"all tasks mixed, form {label}"] = mixed
    return [item for subject, run in runs.items() for item in _tried(run, subject, checks)]


def _tried(run: Iterator[Comparison], subject: str, checks: list[Check]) -> list[Comparison]:
    """What ``run`` compares; a pack that cannot be used, and rows that the engine refuses, become a failed check."""
    try:
        return list(run)
    except (AnswerError, BackendError, *_DAMAGE) as error:
        checks.append(Check("running", subject, False, str(error)))
        return []


def _checked_engines(running: RunningForm, task: str, checks: list[Check]) -> bool:
    """Whether the engines that run ``task`` load, which those do that have the signatures that the manifest states."""
    try:
        graphs = [graph for graph, _ in running.engines(task)]
    except _DAMAGE as error:
        checks.append(Check("loading", f"task {task}", False, str(error)))
        return False
    seen = {check.subject for check in checks if check.name == "signature"}  # a graph for all tasks counts once
    checks += [Check("signature", graph.path, True) for graph in graphs if graph.path not in seen]
    return True


def _check_bare(artifact: Artifact, options: EngineOptions, checks: list[Check]) -> None:
    info = artifact.manifest.forms.get(BARE)
    if info is None or info.graph is None:
        return
    try:
        load_engine(artifact, info.graph, options)
        checks.append(Check("signature", info.graph.path, True))
    except ArtifactError as error:
        checks.append(Check("loading", info.graph.path, False, str(error)))


def _versions() -> dict[str, str]:
    """Versions of what ran, without importing it."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
