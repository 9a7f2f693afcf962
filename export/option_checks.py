"""Which options of an export go together, and with which bundles: asked before any work."""

from collections.abc import Sequence

from propetl.bundle.reader import Bundle
from propetl.errors import ConfigurationError
from propetl.export.layouts import TEXT, TOKEN, by_place
from propetl.export.options import (
    BF16,
    FP32,
    HALVES,
    INT4,
    INT8_STATIC,
    OLDEST_FOR_INT8,
    OPSETS,
    QUANTISATIONS,
    ExportOptions,
)
from propetl.export.quantisation_loss import check_measurable
from propetl.export.tensorrt_engines.requirements import Graphs, check_graphs
from propetl.export.triton_repository.models import SERVED_FORMS
from propetl.export.web_page import check_page
from propetl.prototypes.registry import METHODS
from propetl.runtime.losses import check_drop
from propetl.runtime.manifest import common_head
from propetl.runtime.operators import ONNXRUNTIME, OPERATOR_SETS, STANDARD
from propetl.runtime.signatures import BANK, BARE, FOLDED, FORM_RULES, SWITCHABLE


def check_options(bundle: Bundle, options: ExportOptions, tasks: Sequence[str]) -> None:
    """Refuses options that do not go together, or not with ``tasks`` of ``bundle``.

    Raises:
        ConfigurationError: naming the option, and what to do.
        BackendError: a loss that cannot be measured here.
    """
    config = bundle.info.prototype
    if not options.forms:
        raise ConfigurationError(f"no form was chosen; known: {', '.join(FORM_RULES)}")
    if unknown := set(options.forms) - set(FORM_RULES):
        raise ConfigurationError(f"form {min(unknown)!r} is not known; known: {', '.join(FORM_RULES)}")
    if options.opset not in OPSETS:
        raise ConfigurationError(f"opset {options.opset} is not among those tested: {', '.join(map(str, OPSETS))}")
    if options.operators not in OPERATOR_SETS:
        raise ConfigurationError(f"operators {options.operators!r} are not known; known: {', '.join(OPERATOR_SETS)}")
    if options.engines is not None:
        generate = answers_in_text(bundle, tasks)
        graphs = Graphs(options.operators, options.quantize, options.opset, options.forms, generate)
        check_graphs(options.engines, graphs)
    _check_quantisation(options)
    if config.specification.trains_backbone:
        raise ConfigurationError(
            "a fully trained backbone is not exported here: its weights are a model of their own; use optimum"
        )
    if options.triton and not set(SERVED_FORMS) & set(options.forms):
        raise ConfigurationError(
            f"--layout triton takes --form {' or '.join(SERVED_FORMS)}; found {', '.join(options.forms)}: Triton "
            "batches along the first size of every input, and masks that are inputs have no such size"
        )
    if answers_in_text(bundle, tasks):
        _check_generating(options)
    if options.web:
        check_page(options, bundle.tokenizer_folder)
    _check_tagging(bundle, tasks, options)
    if options.merge_decoders and (not bundle.info.backbone.decoder_layers or FOLDED not in options.forms):
        raise ConfigurationError(
            "--merge-decoders joins the two decoders of a folded task on an encoder-decoder; found "
            f"{bundle.info.backbone.name} in {', '.join(options.forms)}: leave it out"
        )
    if options.merge_weights and (not config.specification.mergeable or set(options.forms) - {FOLDED, BARE}):
        raise ConfigurationError(
            f"--merge-weights is for {_mergeable()} in folded form; this is {config.method} in "
            f"{', '.join(options.forms)}"
        )


def _mergeable() -> str:
    return ", ".join(method.title for method in METHODS.values() if method.mergeable)


def answers_in_text(bundle: Bundle, tasks: Sequence[str]) -> bool:
    """Whether ``tasks`` are answered in text and not by heads.

    Raises:
        ConfigurationError: some are, some are not: their graphs have nothing in common.
    """
    texts = by_place({task: bundle.info.tasks[task] for task in tasks}).get(TEXT, [])
    if texts and len(texts) < len(tasks):
        others = sorted(set(tasks) - set(texts))
        raise ConfigurationError(
            f"tasks {', '.join(texts)} are answered in text and {', '.join(others)} by heads; "
            "export each kind by itself with --task"
        )
    return bool(texts)


def _check_tagging(bundle: Bundle, tasks: Sequence[str], options: ExportOptions) -> None:
    """A graph that serves several tasks needs heads of one kind; one that hands out its logits, one answer a row.

    Raises:
        ConfigurationError: naming the tasks.
    """
    infos = {task: bundle.info.tasks[task] for task in tasks}
    taggers = by_place(infos).get(TOKEN, [])
    if not taggers:
        return
    if options.triton:
        raise ConfigurationError(
            f"--layout triton serves tasks that answer once a row, {', '.join(taggers)} tags words; "
            "choose others with --task"
        )
    others = [task for task in tasks if task not in taggers]
    shared = [form for form in options.forms if form in (SWITCHABLE, BANK)]
    two_kinds = common_head(list(infos.values()), bundle.info.head) is None
    for asked, refused in (
        (f"form {shared[0]}" if shared else "", two_kinds and shared),
        ("--refit", options.engines and options.engines.refit),
        ("--polygraphy", options.polygraphy and shared),
    ):
        if others and refused:
            raise ConfigurationError(
                f"{asked}: tasks {', '.join(taggers)} tag words and {', '.join(others)} answer once a row, "
                "which one graph cannot do here; export each kind by itself with --task"
            )


def _check_generating(options: ExportOptions) -> None:
    """Options that need tasks with heads are refused by name."""
    for_heads = {
        f"form {BARE}": BARE in options.forms,
        "--layout triton": options.triton,
        "--layout web": options.web,
        "--polygraphy": options.polygraphy,
        f"--quantize {options.quantize}": options.quantize == INT8_STATIC,
    }
    for name, asked in for_heads.items():
        if asked:
            raise ConfigurationError(f"{name} is for tasks with heads, this backbone generates; leave it out")


def _check_quantisation(options: ExportOptions) -> None:
    if options.quantize not in QUANTISATIONS:
        known = ", ".join(QUANTISATIONS)
        raise ConfigurationError(f"--quantize {options.quantize!r} is not known; known: {known}")
    if options.quantize == FP32 and options.data is not None:
        raise ConfigurationError("--data measures what quantising costs; it goes with --quantize")
    if options.quantize == INT8_STATIC and options.opset < OLDEST_FOR_INT8:
        raise ConfigurationError(
            f"--quantize {INT8_STATIC} needs --opset {OLDEST_FOR_INT8} or later; got {options.opset}"
        )
    if options.quantize == INT4 and options.operators != ONNXRUNTIME:
        raise ConfigurationError(f"--quantize {INT4} is an operator of ONNX Runtime; add --operators {ONNXRUNTIME}")
    if options.quantize in HALVES and options.operators != STANDARD:
        raise ConfigurationError(
            f"--quantize {options.quantize} brings ONNX's own operators to that type: export without --operators "
            f"{options.operators}"
        )
    if options.quantize == BF16 and options.tune:
        raise ConfigurationError(
            f"--quantize {BF16} needs a GPU, and --tune is for the CPU of this machine; leave it out"
        )
    check_measurable(options)
    check_drop(options.max_drop)
