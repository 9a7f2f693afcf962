"""The report of ``benchmarks/gpu.sh`` for people."""

from collections.abc import Iterator
from typing import Any

Report = dict[str, Any]


def markdown_of(report: Report) -> str:
    """``report`` as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    title = "Dry run on the CPU: no figure of this page is of a GPU" if report["dry_run"] else "On a GPU"
    yield from (f"# {title}", "", f"{report['date']}. " + _machine(report["machine"]), "")
    yield from ("## Steps", "", "| step | | seconds | detail |", "|---|---|---|---|")
    for step in report["steps"]:
        detail = step["detail"] or _validation(step["figures"])
        yield f"| {step['name']} | {step['status']} | {step['seconds']:.0f} | {detail.replace('|', '/')} |"
    for step in report["steps"]:
        if "bench" in step["figures"]:
            yield from ("", f"## {step['name']}", "")
            yield from _bench(step["figures"]["bench"])


def _machine(machine: dict[str, Any]) -> str:
    gpu = machine["gpu"]
    if machine["compute_capability"] is None:
        named = "No GPU"
    else:
        named = (
            f"{gpu.get('name', 'a GPU')}, SM {machine['compute_capability']}, driver {gpu.get('driver_version', '?')}"
        )
    return f"{named}; " + ", ".join(f"{name} {version}" for name, version in machine["packages"].items())


def _validation(figures: dict[str, Any]) -> str:
    if "comparisons" not in figures:
        return ""
    error = figures["largest_error"]
    shown = "none" if error is None else f"{error:.1e}"
    return f"{figures['precision']}, {figures['comparisons']} comparisons, largest error {shown}"


def _bench(bench: Report) -> Iterator[str]:
    """Milliseconds per batch: of the session's call, and of the GPU alone where that was timed."""
    on_gpu = {
        (item["runtime"], item["batch"], item["sequence"], item["transfers"], item["graph"]): item["device"]["p50"]
        for item in bench["device"]
    }
    yield "| batch × tokens | runtime | call p50 | call p99 | rows/s | ÷ bare | GPU p50 | GPU p50, CUDA graph |"
    yield "|---|---|---|---|---|---|---|---|"
    for item in bench["latency"]:
        cell, latency = (item["runtime"], item["batch"], item["sequence"]), item["latency"]
        ratio = "" if item["to_bare"] is None else f"{item['to_bare']['median']:.3f}"
        gpu = [on_gpu.get((*cell, False, graph)) for graph in (False, True)]
        times = ["" if time is None else f"{time:.3f}" for time in gpu]
        yield (
            f"| {item['batch']} × {item['sequence']} | {item['runtime']} | {latency['p50']:.3f} | {latency['p99']:.3f} "
            f"| {latency['rows_per_second']:.0f} | {ratio} | {times[0]} | {times[1]} |"
        )
    for item in bench["generation"]:
        shape = f"{item['batch']} × {item['sequence']}, {item['new_tokens']} new"
        first, step = item["first"]["p50"], item["step"]["p50"]
        rate = item["tokens_per_second"]["median"]
        times = f"first {first:.2f} ms, then {step:.2f} ms each"
        yield f"\nAnswers of {item['runtime']}, {shape}: {rate:.0f} tokens/s, {times}."
    for switch in bench["switching"]:
        cost, where = switch["cost_ms"]["median"], f"{switch['batch']} × {switch['sequence']}"
        yield f"\nSwitching tasks, {switch['runtime']}, {where}: {cost:+.3f} ms."
