"""From the shapes that a user asks for to the profiles of one graph, whatever sizes its inputs leave open."""

from collections.abc import Iterator, Sequence

from propetl.export.tensorrt_engines.options import ShapeRange, TensorRTOptions, default_shapes
from propetl.problems.text import text_of
from propetl.runtime.engine_records import Profile, Sizes
from propetl.runtime.generation.parts import PAST, PRESENT, TARGET
from propetl.runtime.manifest import GraphInfo, Manifest
from propetl.runtime.signatures import BATCH, LABELS, ROWS, SEQUENCE

_FEWEST_LABELS = 32


def profiles_of(graph: GraphInfo, manifest: Manifest, options: TensorRTOptions) -> tuple[Profile, ...]:
    """The optimisation profiles of ``graph``: one for each range of shapes, or two if it is a decoder alone.

    Args:
        graph: whose inputs they are for.
        manifest: of its artifact.
        options: what the user asked for.
    """
    shapes = options.shapes or default_shapes(manifest.max_length)
    named = {size for item in graph.inputs for size in item.shape if isinstance(size, str)}
    found = [sizes for shape in shapes for sizes in _sizes(shape, named, manifest, options)]
    profiles = [Profile({name: sizes[name] for name in sizes if name in named}) for sizes in found]
    return tuple({str(profile): profile for profile in profiles}.values())  # what differs in other sizes only is one


def _sizes(
    shape: ShapeRange, named: set[str], manifest: Manifest, options: TensorRTOptions
) -> Iterator[dict[str, Sizes]]:
    """Every size that a graph may have open."""
    if manifest.generation is None:
        yield {
            BATCH: shape.batch,
            SEQUENCE: shape.sequence,
            LABELS: _labels(manifest),
            ROWS: _rows(shape, named),
        }
        return
    # Rows end one by one and a cache begins with nothing, so whatever is asked for, these begin with one.
    rows = {BATCH: (1, *shape.batch[1:]), ROWS: _rows(shape, named)}
    text, answer = (1, *shape.sequence[1:]), _longest_answer(manifest, options)
    if PRESENT not in named:
        yield rows | {SEQUENCE: text, TARGET: (1, 1, 1), PAST: (1, (answer + 1) // 2, answer)}
        return
    usual, longest = text[1] + answer // 2, text[2] + answer
    yield rows | {TARGET: text, PAST: (0, 0, 0), PRESENT: text}
    yield rows | {TARGET: (1, 1, 1), PAST: (1, usual, longest), PRESENT: (2, usual + 1, longest + 1)}


def _rows(shape: ShapeRange, named: set[str]) -> Sizes:
    """Rows of weights that are inputs: one for all rows of the batch, or one for each."""
    return (1, 1, shape.batch[2] if BATCH in named else 1)


def _labels(manifest: Manifest) -> Sizes:
    """Those of the tasks that are here, with room for others that come later."""
    widest = max(task.info.outputs for task in manifest.tasks.values())
    return (1, widest, max(widest, _FEWEST_LABELS))


def _longest_answer(manifest: Manifest, options: TensorRTOptions) -> int:
    """In tokens."""
    if options.max_new_tokens is not None:
        return options.max_new_tokens
    return max(text_of(task.info).max_target_length for task in manifest.tasks.values())


def ranges_of(profiles: Sequence[Profile]) -> str:
    """``profiles`` in one line."""
    return "; ".join(map(str, profiles))
