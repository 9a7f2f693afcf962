"""The way through: conditions, measurements, report."""

from propetl.runtime.bench.conditions import conditions_now
from propetl.runtime.bench.plan import Plan
from propetl.runtime.bench.report import Report, report_of
from propetl.runtime.bench.steps import Progress, measure


def run_bench(plan: Plan, progress: Progress = lambda what, done, total: None) -> Report:
    """Runs ``plan`` and returns its report; ``progress`` is called before each step.

    Raises:
        ProPETLError: a worker could not load or run what it was asked to.
    """
    conditions = conditions_now(eager=plan.options.bundle is not None)
    return report_of(plan, measure(plan, progress), conditions)
