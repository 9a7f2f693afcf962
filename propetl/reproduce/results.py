"""What the finished runs of a set reached: mean and deviation over seeds."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from propetl.reproduce.plan import PlannedRun
from propetl.reproduce.sets import AVERAGE, ExperimentSet
from propetl.training.folder import RunFolder

Place = tuple[str, str]
"""Task and metric; the average over all of them is ``("average", "")``."""

AVERAGE_PLACE: Place = (AVERAGE, "")


@dataclass(frozen=True)
class Measured:
    """One score over seeds, in percent.

    Attributes:
        by_seed: the score of each seed whose run has ended.
    """

    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.mean(self.by_seed.values())

    @property
    def deviation(self) -> float | None:
        """Standard deviation of a sample; None for one seed."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """As written."""
        seeds = {str(seed): value for seed, value in self.by_seed.items()}
        return {"mean": self.mean, "deviation": self.deviation, "seeds": seeds}


@dataclass(frozen=True)
class RowResults:
    """One experiment.

    Attributes:
        name: the row's.
        ours: by task and metric; a place without a finished run is left out.
        paper: reported scores in percent, likewise.
    """

    name: str
    ours: Mapping[Place, Measured]
    paper: Mapping[Place, float]


@dataclass(frozen=True)
class SetResults:
    """A whole set, as far as it has been run.

    Attributes:
        name: the set's.
        title: of its table.
        seeds: asked for.
        places: rows of the table: every task and metric, then the average.
        rows: its experiments.
        done: runs that have ended.
        planned: runs in all.
        overrides: the user's changes: with any, this is not the paper's experiment.
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    places: tuple[Place, ...]
    rows: tuple[RowResults, ...]
    done: int
    planned: int
    overrides: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """For machines: scores in percent."""
        return {
            "set": self.name,
            "title": self.title,
            "seeds": list(self.seeds),
            "runs": {"done": self.done, "planned": self.planned},
            "overrides": dict(self.overrides),
            "rows": [
                {
                    "name": row.name,
                    "scores": [
                        {"task": task, "metric": metric}
                        | {"ours": row.ours[task, metric].to_json() if (task, metric) in row.ours else None}
                        | {"paper": row.paper.get((task, metric))}
                        for task, metric in self.places
                    ],
                }
                for row in self.rows
            ],
        }


def results_of(
    name: str,
    chosen: ExperimentSet,
    runs: Sequence[PlannedRun],
    metrics: Mapping[str, Sequence[str]],
    overrides: Mapping[str, Any],
) -> SetResults:
    """Reads the reports of those of ``runs`` that have ended.

    Args:
        name: of the set.
        chosen: the set.
        runs: planned.
        metrics: of each task, in the order of the paper's numbers.
        overrides: the user's changes.
    """
    places = [(task, metric) for task, names in metrics.items() for metric in names]
    reports = [(run, RunFolder(run.config.output).report()) for run in runs]
    scores: dict[str, dict[int, dict[Place, float]]] = {}
    for run, report in reports:
        found = scores.setdefault(run.row, {}).setdefault(run.seed, {})
        for task, values in (report or {"scores": {}})["scores"].items():
            found |= {(task, metric): 100 * value for metric, value in values.items()}
    return SetResults(
        name=name,
        title=chosen.title,
        seeds=tuple(dict.fromkeys(run.seed for run in runs)),
        places=(*places, AVERAGE_PLACE),
        rows=tuple(
            RowResults(row.name, _measured(scores[row.name], places), _reported(row.paper, metrics))
            for row in chosen.rows
            if row.name in scores
        ),
        done=sum(report is not None for _, report in reports),
        planned=len(runs),
        overrides=overrides,
    )


def _measured(by_seed: Mapping[int, Mapping[Place, float]], places: Iterable[Place]) -> dict[Place, Measured]:
    """Each place over seeds, and the average of all places over the seeds that have them all."""
    wanted = list(places)
    averages = {
        seed: statistics.mean(found[place] for place in wanted)
        for seed, found in by_seed.items()
        if all(place in found for place in wanted)
    }
    columns = {place: {seed: found[place] for seed, found in by_seed.items() if place in found} for place in wanted} | {
        AVERAGE_PLACE: averages
    }
    return {place: Measured(values) for place, values in columns.items() if values}


def _reported(paper: Mapping[str, Sequence[float]], metrics: Mapping[str, Sequence[str]]) -> dict[Place, float]:
    places = {
        (task, metric): value
        for task, names in metrics.items()
        for metric, value in zip(names, paper.get(task, ()), strict=False)
    }
    whole = set(paper) - {AVERAGE} <= set(metrics)  # an average over other tasks is no number to compare with
    return places | ({AVERAGE_PLACE: paper[AVERAGE][0]} if AVERAGE in paper and whole else {})
